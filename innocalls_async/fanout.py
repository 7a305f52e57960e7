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

import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

import anyio
from anyio.abc import TaskGroup
from attrs import frozen

from innocalls_async.events import LOGGER
from innocalls_async.outcomes import Refused
from innocalls_async.pipeline import Pipeline, Run
from innocalls_async.wire import Message
from innocalls_async.workers import Worker, in_doubt, outcome_of, spawn

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


class FanOut(AsyncIterator[Out], Generic[Item, Out]):
    """The outcomes of a fan-out. Iterate over it once; `aclose()` ends it early.

    After `aclose()`, `untaken` has the outcomes that came when nobody was reading any more. Those
    of an iterator that is dropped without a look at them are in the log, as warnings.
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

    def __anext__(self) -> Coroutine[Any, Any, Out]:
        # No coroutine of its own: in the traceback of a cancellation, that would keep us alive.
        return self._crew.take(self)

    async def aclose(self) -> None:
        """Cancel what has not been sent, and wait for what is on the wire."""
        self._crew.stop()
        await self._crew.finished()

    @property
    def progress(self) -> Progress:
        """How far it is, at this moment."""
        return self._crew.progress

    @property
    def cut_short(self) -> Mapping[int, int]:
        """The items, by index, that were given up before they had an outcome, with nothing of
        them on the wire; and how many attempts had been made of each."""
        return self._crew.cut_short

    @property
    def untaken(self) -> list[Out]:
        """Outcomes that were not yielded, so far."""
        return self._crew.show_untaken()

    def __del__(self) -> None:
        # The event loop may be gone already, and its tasks with it.
        with contextlib.suppress(Exception):
            self._crew.abandon()


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
        self._input = items
        self._read = _reader(items)
        self._concurrency = concurrency
        self._pipeline = pipeline
        self._write = write
        self._succeed = succeed
        # One of an asynchronous input's items is awaited at a time; a plain iterator never waits.
        self._turn = anyio.Lock() if isinstance(items, AsyncIterable) else None
        self._workers: set[Worker] = set()
        self._failure: Exception | None = None
        self._is_read = False  # nothing more is taken from the input
        self._is_exhausted = False  # nothing more is in it
        self._is_stopped = False
        self._is_over = False  # no worker is left
        self._is_abandoned = False  # nobody can read what still comes
        self._host: object = None
        # To find out which loop is running takes anyio 2 us: once will do, as soon as one is.
        self._event: type[anyio.Event] = anyio.Event
        self._news = anyio.Event()
        self._items_read = self._taken = 0
        self.ready: deque[tuple[Out, anyio.Event]] = deque()
        self.cut_short: dict[int, int] = {}
        # Told, when the work is over, of each outcome that nobody took: which nobody gets then.
        self.on_untaken: Callable[[Out], object] | None = None
        self._is_untaken_known = False
        self._reader: object = None
        self._is_given_up = False
        self._is_broken_off = False

    @property
    def progress(self) -> Progress:
        finished = self._taken + len(self.ready)
        is_complete = self._is_over and self._is_exhausted and finished == self._items_read
        return Progress(self._items_read, finished, self._taken, is_complete)

    async def take(self, reader: object) -> Out:
        # Kept for as long as this lasts, because the caller may hold nothing but the coroutine; and
        # not by a variable, which the traceback of a cancellation would keep.
        self._reader = reader
        del reader
        try:
            if self._host is None and not self._is_over:
                self._host = spawn(self._work)
            while self._is_given_up or not self.ready:
                if self._is_over:
                    await self._end()
                await self._wait()
        finally:
            self._reader = None
        outcome, taken = self.ready.popleft()
        self._taken += 1
        taken.set()
        return outcome

    async def _end(self) -> None:
        failure, self._failure = self._failure, None
        is_broken_off, self._is_broken_off = self._is_broken_off, False
        if failure is not None:
            raise failure
        if is_broken_off and not await self._was_all():
            raise RuntimeError(
                f"the fan-out was cut off, as its client was closed: {self._taken} of its outcomes "
                "were taken, any others went to on_abandoned, and what has none was not sent"
            )
        raise StopAsyncIteration

    async def _was_all(self) -> bool:
        """Whether the input has no more items than those whose outcomes were taken. Of one that
        has to be waited for, nobody knows until it has ended."""
        if self._taken < self._items_read:
            return False
        if not self._is_exhausted and self._turn is None:
            self._is_exhausted = await self._read() is _END
        return self._is_exhausted

    def break_off(self) -> None:
        """Stop it under whoever reads, and who must not take what came by then for all."""
        if not self._is_stopped:  # else whoever read knows that it left, or is to be told already
            self._is_broken_off = True
        self.stop()

    def abandon(self) -> None:
        """Nobody reads any more. What came and was not taken is told at least to the log."""
        self._is_abandoned = True
        self.stop()
        if self.on_untaken is None and not self._is_untaken_known:
            for outcome, _ in self.ready:
                self._log(outcome)

    def show_untaken(self) -> list[Out]:
        self._is_untaken_known = self._is_stopped
        return [outcome for outcome, _ in self.ready]

    def stop(self) -> None:
        self._is_read = self._is_stopped = True
        if self._host is None:
            self._is_over = True
        for worker in self._workers:
            worker.stop()

    async def finished(self) -> None:
        while not self._is_over:
            await self._wait()

    async def _wait(self) -> None:
        # Two may wait: a reader, and a task that closes the iterator under it.
        if self._news.is_set():
            self._news = self._event()
        await self._news.wait()

    def _tell(self) -> None:
        self._news.set()

    async def _work(self) -> None:
        self._event = type(anyio.Event())
        # What left a system task of trio's would end the program.
        with contextlib.suppress(Exception):
            try:
                async with anyio.create_task_group() as group:
                    self._hire(group)
            except BaseException as reason:
                # A bug, or somebody cancelled this task alone: whoever reads shall hear of it.
                self._failure = RuntimeError(f"the fan-out broke off: {reason!r}")
                raise
            finally:
                self._is_over = True
                self._give_up()
                await self._leave_input()
                self._tell()

    def _give_up(self) -> None:
        if self.on_untaken is not None and self.ready:
            self._is_given_up = True
            for outcome, _ in self.ready:
                self.on_untaken(outcome)

    async def _leave_input(self) -> None:
        """Let an asynchronous input end now that nobody reads it any more, and not when it is
        collected, of which trio warns."""
        close = getattr(self._input, "aclose", None)
        if self._is_stopped and close is not None:
            with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
                await close()

    def _hire(self, group: TaskGroup) -> None:
        worker = Worker()
        self._workers.add(worker)
        group.start_soon(self._serve, worker, group)

    async def _serve(self, worker: Worker, group: TaskGroup) -> None:
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
            self._is_read = self._is_exhausted = True
            return None
        index = self._items_read
        self._items_read += 1
        return index, item

    async def _carry_out(self, worker: Worker, index: int, item: Item) -> Any:
        try:
            message = self._write(item)
        except Exception as error:  # whatever the item is, it is no more than that one's
            return Refused(index, item, error)
        worker.run = run = self._pipeline.begin(message)
        try:
            result = await self._pipeline.carry_out(run)
        except Exception as error:
            return outcome_of(run, index, item, error)
        except BaseException as stop:
            # Stopped with nothing on the wire, as `stop` saw it; a byte may have left since.
            if run.is_in_doubt:
                self._report(in_doubt(run, index, stop))
            elif run.attempts:
                self.cut_short[index] = run.attempts
            raise
        return self._succeed(run, index, item, result)

    async def _hand_over(self, worker: Worker, outcome: Out) -> None:
        worker.run = None
        taken = self._report(outcome)
        if not self._is_stopped:
            await taken.wait()

    def _report(self, outcome: Any) -> anyio.Event:
        taken = self._event()
        self.ready.append((outcome, taken))
        self._tell()
        if self._is_abandoned and self.on_untaken is None:
            self._log(outcome)
        return taken

    def _log(self, outcome: object) -> None:
        LOGGER.warning("nobody took this outcome, its reader has left: %r", outcome)


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
