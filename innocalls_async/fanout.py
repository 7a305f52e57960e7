"""Thousands of operations from one input, one outcome each, in the order they finish.

The one who iterates owns an iterator and nothing else: no task group and no cancel scope lives
across a `yield`, so that leaving the loop at any point, on either event loop, cancels nothing that
is not ours (PEP 789 tells what goes wrong otherwise). The work is done by a host task beside it,
in a task group of its own. Each worker there reads an item, carries it out, and holds its outcome
until that is taken: so no more than `concurrency` items are ever in memory, and a slow reader
slows the sending down.

When the iterator is closed or dropped, the workers that have nothing on the wire are cancelled;
the others finish their attempt and are not retried.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Final, Generic, TypeAlias, TypeVar

import anyio
from anyio.abc import TaskGroup
from attrs import define, field, frozen

from innocalls_async.errors import InnoCallsError, OutcomeUnknownError
from innocalls_async.events import LOGGER
from innocalls_async.outcomes import InDoubt, Refused
from innocalls_async.pipeline import Pipeline, Run
from innocalls_async.wire import Message

__all__ = ["FanOut", "Progress"]

Item = TypeVar("Item")
Out = TypeVar("Out")

Input: TypeAlias = Iterable[Item] | AsyncIterable[Item]

_END: Final = object()


@frozen
class Progress:
    """How far a fan-out is: items `read`, of which `finished` have an outcome and `taken` were
    yielded. `is_complete` once the input has ended and everything has an outcome."""

    read: int
    finished: int
    taken: int
    is_complete: bool


@define(eq=False)
class _Worker:
    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    run: Run | None = None


class FanOut(AsyncIterator[Out], Generic[Item, Out]):
    """The outcomes of a fan-out. Iterate over it once; `aclose()` ends it early.

    After `aclose()`, `untaken` has the outcomes that came when nobody was reading any more.
    """

    def __init__(
        self,
        items: Input[Item],
        *,
        concurrency: int,
        pipeline: Pipeline,
        write: Callable[[Item], Message],
        succeed: Callable[[Run, int, Item, Any], Out],
    ) -> None:
        self._crew: _Crew[Item, Out] = _Crew(items, concurrency, pipeline, write, succeed)

    def __aiter__(self) -> FanOut[Item, Out]:
        return self

    async def __anext__(self) -> Out:
        return await self._crew.take()

    async def aclose(self) -> None:
        """Cancel what has not been sent, and wait for what is on the wire."""
        self._crew.stop()
        await self._crew.finished()

    @property
    def progress(self) -> Progress:
        """How far it is, at this moment."""
        return self._crew.progress

    @property
    def untaken(self) -> list[Out]:
        """Outcomes that were not yielded, so far."""
        return [outcome for outcome, _ in self._crew.ready]

    def __del__(self) -> None:
        # The event loop may be gone already, and its tasks with it.
        with contextlib.suppress(Exception):
            self._crew.is_abandoned = True
            self._crew.stop()


class _Crew(Generic[Item, Out]):
    """The host task's side: it must not refer to the iterator, whose end it has to notice."""

    def __init__(
        self,
        items: Input[Item],
        concurrency: int,
        pipeline: Pipeline,
        write: Callable[[Item], Message],
        succeed: Callable[[Run, int, Item, Any], Out],
    ) -> None:
        self._read = _reader(items)
        self._concurrency = concurrency
        self._pipeline = pipeline
        self._write = write
        self._succeed = succeed
        # One of an asynchronous input's items is awaited at a time; a plain iterator never waits.
        self._turn = anyio.Lock() if isinstance(items, AsyncIterable) else None
        self._workers: set[_Worker] = set()
        self._failure: Exception | None = None
        self._is_read = False  # nothing more comes of the input
        self._is_stopped = False
        self._is_over = False  # no worker is left
        self.is_abandoned = False  # nobody can read what still comes
        self._host: object = None
        self._news = anyio.Event()
        self._items_read = self._taken = 0
        self.ready: deque[tuple[Out, anyio.Event]] = deque()

    @property
    def progress(self) -> Progress:
        finished = self._taken + len(self.ready)
        return Progress(self._items_read, finished, self._taken, self._is_over)

    async def take(self) -> Out:
        if self._host is None and not self._is_over:
            self._host = _spawn(self._work)
        while not self.ready:
            if self._is_over:
                await self._end()
            await self._wait()
        outcome, taken = self.ready.popleft()
        self._taken += 1
        taken.set()
        return outcome

    async def _end(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise StopAsyncIteration

    def stop(self) -> None:
        self._is_read = self._is_stopped = True
        if self._host is None:
            self._is_over = True
        for worker in self._workers:
            if worker.run is not None and worker.run.is_on_the_wire:
                worker.run.is_last = True
            else:
                worker.scope.cancel()

    async def finished(self) -> None:
        while not self._is_over:
            await self._wait()

    async def _wait(self) -> None:
        # Two may wait: a reader, and a task that closes the iterator under it.
        if self._news.is_set():
            self._news = anyio.Event()
        await self._news.wait()

    def _tell(self) -> None:
        self._news.set()

    async def _work(self) -> None:
        try:
            async with anyio.create_task_group() as group:
                self._hire(group)
        finally:
            self._is_over = True
            self._tell()

    def _hire(self, group: TaskGroup) -> None:
        worker = _Worker()
        self._workers.add(worker)
        group.start_soon(self._serve, worker, group)

    async def _serve(self, worker: _Worker, group: TaskGroup) -> None:
        try:
            with worker.scope:
                while (entry := await self._next()) is not None:
                    if len(self._workers) < self._concurrency and not self._is_read:
                        self._hire(group)
                    outcome = await self._carry_out(worker, *entry)
                    await self._hand_over(worker, outcome)
        finally:
            self._workers.discard(worker)

    async def _next(self) -> tuple[int, Item] | None:
        if self._turn is None:
            return await self._read_next()
        async with self._turn:
            return await self._read_next()

    async def _read_next(self) -> tuple[int, Item] | None:
        if self._is_read:
            return None
        try:
            item = await self._read()
        except Exception as failure:  # the input's own: it is passed on, after the outcomes
            self._failure, self._is_read = failure, True
            return None
        if item is _END:
            self._is_read = True
            return None
        index = self._items_read
        self._items_read += 1
        return index, item

    async def _carry_out(self, worker: _Worker, index: int, item: Item) -> Any:
        try:
            message = self._write(item)
        except (TypeError, ValueError) as error:
            return Refused(index, item, error)
        worker.run = run = self._pipeline.begin(message)
        try:
            result = await self._pipeline.carry_out(run)
        except OutcomeUnknownError as error:
            assert message.request is not None  # noqa: S101 - only a create is in doubt
            return InDoubt(index, message.request, error)
        except Exception as error:
            if run.is_in_doubt and not isinstance(error, InnoCallsError):
                return _in_doubt(index, run, error)  # a caller's callback broke it on the wire
            return Refused(index, item, error)
        except BaseException as stop:
            # Stopped with nothing on the wire, as `stop` saw it; a byte may have left since.
            if run.is_in_doubt:
                self._report(_in_doubt(index, run, stop))
            raise
        return self._succeed(run, index, item, result)

    async def _hand_over(self, worker: _Worker, outcome: Out) -> None:
        worker.run = None
        taken = self._report(outcome)
        if not self._is_stopped:
            await taken.wait()

    def _report(self, outcome: Any) -> anyio.Event:
        taken = anyio.Event()
        self.ready.append((outcome, taken))
        self._tell()
        if self.is_abandoned:
            LOGGER.warning("an outcome came after its reader had left: %r", outcome)
        return taken


def _in_doubt(index: int, run: Run, error: BaseException) -> InDoubt:
    request = run.message.request
    assert request is not None  # noqa: S101 - only a create is in doubt
    doubt = OutcomeUnknownError(f"{type(error).__name__}: {error}", request=request)
    return InDoubt(index, request, doubt)


def _reader(items: Input[Item]) -> Callable[[], Coroutine[Any, Any, Any]]:
    """A function that gives the next item, or `_END`."""
    if isinstance(items, AsyncIterable):
        asynchronous = aiter(items)

        async def read() -> Any:
            return await anext(asynchronous, _END)
    elif isinstance(items, Iterable):
        synchronous = iter(items)

        async def read() -> Any:
            return next(synchronous, _END)
    else:
        raise TypeError(f"an iterable or async iterable is needed, not {type(items).__name__}")
    return read


_hosts: set[object] = set()  # asyncio itself keeps only weak references to tasks


def _spawn(work: Callable[[], Coroutine[Any, Any, None]]) -> object:
    """Start `work` beside the caller, in nobody's task group, on either event loop."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return trio.lowlevel.spawn_system_task(work, context=contextvars.copy_context())
    task = asyncio.get_running_loop().create_task(work())
    _hosts.add(task)
    task.add_done_callback(_hosts.discard)
    return task
