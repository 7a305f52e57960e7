"""What becomes of a create whose request handler is cancelled, and of a handler whose caller left.

A handler can be cancelled at any await: by `CancelOnDisconnect`, a middleware, a time limit of
the application's, or a server that will not wait any longer at shutdown. Where its create has not
been sent, it is not sent any more. Where it is on the wire, cutting it off would only make it a
doubt; so it goes on beside the handler, and its outcome is reported instead of returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream
from attrs import define, field

from innocalls_async.client import AsyncBridgeClient
from innocalls_async.events import LOGGER
from innocalls_async.fanout import FanOut
from innocalls_async.models import BridgeRequest, CallStatus, ScheduledCall
from innocalls_async.outcomes import Outcome, Refused, Scheduled

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CancelOnDisconnect", "OnAbandoned", "ServiceClient", "UnusableValueError"]

OnAbandoned: TypeAlias = Callable[[Outcome], object]


class UnusableValueError(ValueError):
    """The client refused a value that it was given, before anything was sent."""


@contextmanager
def _values_told_apart() -> Iterator[None]:
    """A ValueError of the client's is the fault of whoever sent the value; one of the
    application's own is a bug. Only the first may be answered with a 422."""
    try:
        yield
    except ValueError as error:
        raise UnusableValueError(str(error)) from None


@define(eq=False)
class _Errand:
    """One create, carried out beside the handler that waits for it."""

    stream: FanOut[BridgeRequest, Outcome]
    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    done: anyio.Event = field(factory=anyio.Event)
    outcomes: list[Outcome] = field(factory=list)  # one, or none where nothing was sent
    is_abandoned: bool = False


class ServiceClient(AsyncBridgeClient):
    """A client for request handlers. Its creates are tasks of `errands`, which is to be set to a
    task group that ends before the client is closed: then no create is under way any more."""

    errands: TaskGroup

    def __init__(self, *, on_abandoned: OnAbandoned | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._on_abandoned = on_abandoned

    async def bridge(self, request: BridgeRequest) -> ScheduledCall:
        """As `AsyncBridgeClient.bridge`. Cancelled while the create is on the wire, it leaves
        that to end by itself, and its outcome to `on_abandoned`."""
        errand = _Errand(self.bridge_many([request]))
        self.errands.start_soon(self._carry_out_errand, errand)
        try:
            await errand.done.wait()
        except BaseException:
            errand.is_abandoned = True
            if errand.done.is_set():
                self._report(errand)
            else:
                errand.scope.cancel()
            raise
        return _result(errand.outcomes[0])

    async def status(self, call_id: str, call_flow_id: str) -> CallStatus:
        with _values_told_apart():
            return await super().status(call_id, call_flow_id)

    async def edit(self, call_id: str, request: BridgeRequest) -> None:
        with _values_told_apart():
            await super().edit(call_id, request)

    async def delete(self, call_id: str) -> None:
        with _values_told_apart():
            await super().delete(call_id)

    async def _carry_out_errand(self, errand: _Errand) -> None:
        with errand.scope:
            errand.outcomes.append(await anext(errand.stream))
        if not errand.outcomes:
            await errand.stream.aclose()
            errand.outcomes += errand.stream.untaken
        errand.done.set()
        if errand.is_abandoned:
            self._report(errand)

    def _report(self, errand: _Errand) -> None:
        for outcome in errand.outcomes:
            LOGGER.warning("create: its caller is gone; %s", _told(outcome))
            if self._on_abandoned is not None:
                try:
                    self._on_abandoned(outcome)
                except Exception:
                    LOGGER.exception("on_abandoned failed")


def _result(outcome: Outcome) -> ScheduledCall:
    if isinstance(outcome, Scheduled):
        return ScheduledCall(outcome.call_id, outcome.request)
    with _values_told_apart():
        raise outcome.error


def _told(outcome: Outcome) -> str:
    if isinstance(outcome, Scheduled):
        return f"the call is on the books as {outcome.call_id}"
    is_refused = isinstance(outcome, Refused)
    return f"the call is {'not on the books' if is_refused else 'in doubt'}: {outcome.error}"


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
        # Room for one: an application that never reads its empty body must not hide what follows.
        outbox, inbox = anyio.create_memory_object_stream[MutableMapping[str, Any]](1)
        watch = anyio.CancelScope()

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                watch.cancel()  # a server calls it a disconnect, too, when all was sent
            await send(message)

        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_watch, receive, outbox, watch, group.cancel_scope)
            try:
                await self._app(scope, inbox.receive, send_on)
            except Exception as error:  # raised below, so that no group is made of it
                failure = error
            group.cancel_scope.cancel()
        inbox.close()
        if failure is not None:
            raise failure


async def _watch(
    receive: Receive,
    outbox: MemoryObjectSendStream[Message],
    watch: anyio.CancelScope,
    handler: anyio.CancelScope,
) -> None:
    with outbox, watch:
        while (message := await receive())["type"] != "http.disconnect":
            await outbox.send(message)
        if not watch.cancel_called:
            handler.cancel()
