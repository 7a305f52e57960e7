"""What becomes of a create whose request handler is cancelled, and of a handler whose caller left.

A handler can be cancelled at any await: by `CancelOnDisconnect`, a middleware, a time limit of
the application's, or a server that will not wait any longer at shutdown. Where its create has not
been sent, it is not sent any more. Where it is on the wire, cutting it off would only make it a
doubt; so it goes on beside the handler, and its outcome is reported instead of returned. The same
holds for each item of a fan-out, and for all that is under way when the application ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias
from weakref import WeakSet

import anyio
from attrs import define, field

from innocalls_async.client import AsyncBridgeClient
from innocalls_async.errors import NotSentError, OutcomeUnknownError
from innocalls_async.events import LOGGER
from innocalls_async.fanout import FanOut
from innocalls_async.masking import mask_text
from innocalls_async.models import BridgeRequest, CallStatus, ScheduledCall
from innocalls_async.outcomes import Done, InDoubt, Outcome, Refused, Scheduled
from innocalls_async.workers import Worker, outcome_of, spawn

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CancelOnDisconnect", "OnAbandoned", "ServiceClient", "UnusableValueError"]

# Of an Outcome; and of a Done, where somebody uses the other fan-outs.
OnAbandoned: TypeAlias = Callable[[Any], object]


class UnusableValueError(ValueError):
    """The client refused a value that it was given, before anything was sent."""


@contextmanager
def _values_told_apart() -> Iterator[None]:
    """What is wrong with a message as it is written is the fault of whoever sent the value. A
    ValueError of later, of a limiter or a callback, is a bug, and no 422."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UnusableValueError(str(error)) from None


class _Work(Protocol):
    def break_off(self) -> None: ...

    async def finished(self) -> None: ...


@define(eq=False)
class _Errand(Worker):
    """One create, carried out beside the handler that waits for it."""

    done: anyio.Event = field(factory=anyio.Event)
    outcome: Outcome | None = None  # None where it was stopped before it was sent
    is_abandoned: bool = False

    def break_off(self) -> None:
        self.stop()

    async def finished(self) -> None:
        await self.done.wait()


class ServiceClient(AsyncBridgeClient):
    """A client for request handlers. `aclose` sends nothing new, waits for what is on the wire,
    and has handed every outcome that nobody took to `on_abandoned` before it returns. Whoever
    still reads a fan-out then has a RuntimeError instead of the rest of it."""

    def __init__(self, *, on_abandoned: OnAbandoned | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._on_abandoned = on_abandoned
        self._under_way: WeakSet[_Work] = WeakSet()
        self._is_ending = False

    async def aclose(self) -> None:
        # In a task of its own: a shield alone does not keep out asyncio's own cancellation.
        async with anyio.create_task_group() as group:
            group.start_soon(self._drain)

    async def _drain(self) -> None:
        self._is_ending = True
        with anyio.CancelScope(shield=True):
            under_way = list(self._under_way)
            for work in under_way:
                work.break_off()
            for work in under_way:
                await work.finished()
            await super().aclose()

    async def bridge(self, request: BridgeRequest) -> ScheduledCall:
        """As `AsyncBridgeClient.bridge`. Cancelled while the create is on the wire, it leaves
        that to end by itself, and its outcome to `on_abandoned`."""
        self._check_open()
        with _values_told_apart():
            message = self._wire.create(request)
        errand = _Errand(run=self._pipeline.begin(message))
        self._under_way.add(errand)
        spawn(partial(self._carry_out_errand, errand, request))
        try:
            await errand.done.wait()
        except BaseException:
            errand.is_abandoned = True
            if errand.done.is_set():
                self._report(errand.outcome)
            else:
                errand.stop()
            raise
        return _result(errand.outcome)

    async def status(self, call_id: str, call_flow_id: str) -> CallStatus:
        with _values_told_apart():
            message = self._wire.status(call_id, call_flow_id)
        status: CallStatus = await self._carry_out(message)
        return status

    async def edit(self, call_id: str, request: BridgeRequest) -> None:
        with _values_told_apart():
            message = self._wire.edit(call_id, request)
        await self._carry_out(message)

    async def delete(self, call_id: str) -> None:
        with _values_told_apart():
            message = self._wire.delete(call_id)
        await self._carry_out(message)

    def _fan_out(self, *arguments: Any, **options: Any) -> FanOut[Any, Any]:
        stream = super()._fan_out(*arguments, **options)
        # Its crew, and not itself: that it is dropped is how the crew knows that nobody reads.
        crew = stream._crew
        crew.on_untaken = self._report
        self._under_way.add(crew)
        return stream

    def _check_open(self) -> None:
        if self._is_ending:
            raise NotSentError("nothing was sent: the application ends")
        super()._check_open()

    async def _carry_out_errand(self, errand: _Errand, request: BridgeRequest) -> None:
        run = errand.run
        assert run is not None  # noqa: S101 - an errand is made with one
        try:
            with errand.scope:
                call = await self._pipeline.carry_out(run)
                errand.outcome = Scheduled(0, request, call.call_id, run.attempts)
        except Exception as error:
            errand.outcome = outcome_of(run, 0, request, error)
        finally:
            if errand.outcome is None and run.is_in_doubt:
                # Stopped as its first byte left, or together with the event loop.
                cut_off = OutcomeUnknownError("create: it was cut off", request=request)
                errand.outcome = InDoubt(0, request, cut_off)
            errand.done.set()
            if errand.is_abandoned:
                self._report(errand.outcome)

    def _report(self, outcome: Outcome | Done[Any] | None) -> None:
        if outcome is None:
            return
        LOGGER.warning("nobody waits any more for this outcome: %s", _told(outcome))
        if self._on_abandoned is not None:
            try:
                self._on_abandoned(outcome)
            except Exception:
                LOGGER.exception("on_abandoned failed")


def _result(outcome: Outcome | None) -> ScheduledCall:
    if isinstance(outcome, Scheduled):
        return ScheduledCall(outcome.call_id, outcome.request)
    if outcome is None:
        raise NotSentError("create: nothing was sent: the application ends")
    raise outcome.error


def _told(outcome: Outcome | Done[Any]) -> str:
    if isinstance(outcome, Scheduled):
        return f"the call is on the books as {outcome.call_id}"
    if isinstance(outcome, Done):
        return "done"
    word = "refused" if isinstance(outcome, Refused) else "in doubt"
    return f"{word}: {mask_text(str(outcome.error))}"


# What can be the last of a response's messages. The last two are extensions of some servers.
_BODIES: Final = ("http.response.body", "http.response.zerocopysend", "http.response.pathsend")


class CancelOnDisconnect:
    """ASGI middleware that cancels the handler of an HTTP request when its caller goes away, as
    no server does by itself: `app.add_middleware(CancelOnDisconnect)`.

    What is under way is given up, so a long `client.wait` ends at once. Background tasks, which
    come after the response, are left alone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope, as ASGI 3 has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        failure: Exception | None = None
        with _Watch(receive, send) as watch:
            async with anyio.create_task_group() as group:
                group.start_soon(watch.run, group.cancel_scope)
                try:
                    await self._app(scope, watch.receive, watch.send)
                except Exception as error:  # raised below, so that no group is made of it
                    failure = error
                group.cancel_scope.cancel()
        if failure is not None:
            raise failure


class _Watch:
    """Reads ahead of the application, to see its caller go."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        # Room for one: an application that never reads its empty body must not hide what follows.
        streams = anyio.create_memory_object_stream[MutableMapping[str, Any]](1)
        self._outbox, self._inbox = streams
        self._scope = anyio.CancelScope()
        self._is_answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._outbox.close()
        self._inbox.close()

    async def run(self, handler: anyio.CancelScope) -> None:
        with self._outbox, self._scope:
            while (message := await self._receive())["type"] != "http.disconnect":
                await self._outbox.send(message)
            if not self._is_answered:  # else a server only says by it that all was sent
                handler.cancel()

    async def receive(self) -> Message:
        try:
            return await self._inbox.receive()
        except anyio.EndOfStream:
            return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] in _BODIES and not message.get("more_body"):
            self._is_answered = True
        await self._send(message)
        if self._is_answered:
            self._scope.cancel()
