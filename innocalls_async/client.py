"""`AsyncBridgeClient`: what callers see of the library."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from zoneinfo import ZoneInfo

import anyio
from attrs import evolve

from innocalls_async.admission import Admission
from innocalls_async.clock import current_time
from innocalls_async.errors import DeadlineExceededError, NotFoundError
from innocalls_async.events import Emitter, Event
from innocalls_async.fanout import FanOut
from innocalls_async.limiter import RateLimiter, TokenBucket
from innocalls_async.models import (
    BridgeRequest,
    CallState,
    CallStatus,
    LegState,
    ScheduledCall,
)
from innocalls_async.options import (
    DEFAULT,
    Default,
    check_count,
    check_options,
    check_parts,
    check_seconds,
    read_token,
)
from innocalls_async.outcomes import Done, Outcome, Refused, Scheduled
from innocalls_async.pipeline import Pipeline, Run
from innocalls_async.replies import Reader
from innocalls_async.retry import RetryPolicy
from innocalls_async.times import load_zone
from innocalls_async.transport import ClientExchanger, Exchanger, Pool, TransportExchanger
from innocalls_async.wire import DEFAULT_BASE_URL, BodyFormat, Message, Wire

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncBridgeClient"]

_DEFAULT_RATE: Final = 50
# For so many seconds after the first poll a 404 may mean that a new call is not listed yet.
_LISTING_SECONDS: Final = 10.0


class AsyncBridgeClient:
    """Schedules, reads, edits and deletes bridge calls. On asyncio and on trio.

    A client is safe to share between tasks of one event loop; making one does no I/O. Close it
    with `async with` or `aclose()`.

    Args:
        token: the bearer token; else `$INNOCALLS_TOKEN`.
        base_url: else `$INNOCALLS_BASE_URL`, else the service's own.
        limiter: by default a `TokenBucket(50)` of its own; None for no limit on this side.
        retry: what is sent again; None for one attempt.
        timeout: seconds for one attempt, from its first byte out to the last byte in.
        deadline: seconds for one operation: waiting, attempts and pauses; None for no end.
        max_connections: attempts under way at once; the others wait in line.
        timezone: the account's zone, in which `call_time` is written and replies are read.
        body_format: `"multipart"`, as the document's samples, or `"urlencoded"`.
        transport: an httpx transport to send through. It is closed with the client.
        http_client: an `httpx.AsyncClient` to send through. It is not closed.
        on_event: called with every event; see `innocalls_async.events`.
        allow_plain_http: take an `http://` address other than loopback, which shows the token to
            the network.

    Raises:
        ValueError: an option that cannot be used, or no token.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        base_url: str | None = None,
        limiter: RateLimiter | Default | None = DEFAULT,
        retry: RetryPolicy | None = RetryPolicy(),  # noqa: B008 - frozen
        timeout: float = 30.0,
        deadline: float | None = None,
        max_connections: int = 100,
        timezone: str | ZoneInfo = "Africa/Cairo",
        body_format: BodyFormat = "multipart",
        transport: httpx.AsyncBaseTransport | None = None,
        http_client: httpx.AsyncClient | None = None,
        on_event: Callable[[Event], object] | None = None,
        allow_plain_http: bool = False,
    ) -> None:
        self._is_closed = True  # until everything below went well
        check_options(timeout, deadline, max_connections, transport, http_client)
        check_parts(limiter, retry, on_event)
        zone = load_zone(timezone)
        policy = RetryPolicy(attempts=1) if retry is None else retry
        self._wire = Wire(
            base_url=base_url or os.environ.get("INNOCALLS_BASE_URL") or DEFAULT_BASE_URL,
            token=read_token(token),
            zone=zone,
            body_format=body_format,
            allow_plain_http=allow_plain_http,
        )
        self._exchanger = _exchanger(transport, http_client)
        self._max_connections = max_connections
        self._pipeline = Pipeline(
            origin=self._wire.origin,
            base_url=self._wire.base_url,
            exchanger=self._exchanger,
            reader=Reader(zone),
            admission=Admission(
                max_connections,
                TokenBucket(_DEFAULT_RATE) if isinstance(limiter, Default) else limiter,
                first_pause=policy.initial,
                longest_pause=policy.max_retry_after,
            ),
            retry=policy,
            timeout=timeout,
            deadline=deadline,
            emitter=Emitter(on_event),
        )
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<AsyncBridgeClient {self._wire.origin} {state}>"

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. What is on the wire ends as it may; no other attempt begins."""
        if not self._is_closed:
            self._is_closed = True
            self._pipeline.close()
            await self._exchanger.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            warnings.warn(
                f"{self!r} was dropped without being closed; use `async with` or `aclose()`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    async def authorize(self) -> None:
        """Ask the service whether it takes the token: `AuthenticationError` if not.

        Source: the API document, "Authentication".
        """
        await self._carry_out(self._wire.authorize())

    async def bridge(self, request: BridgeRequest) -> ScheduledCall:
        """Put a call on the service's books.

        Raises:
            ValueError: `call_time` comes twice in the account's zone, as clocks are put back.
            OutcomeUnknownError: the call may or may not be on the books; nothing re-sends it.
            InnoCallsError: it is not on the books; the subclass says why.

        Source: the API document, "Call Bridging".
        """
        call: ScheduledCall = await self._carry_out(self._wire.create(request))
        return call

    async def status(self, call_id: str, call_flow_id: str) -> CallStatus:
        """What the service says of a call now. Source: the API document, "Call Status"."""
        status: CallStatus = await self._carry_out(self._wire.status(call_id, call_flow_id))
        return status

    async def edit(self, call_id: str, request: BridgeRequest) -> None:
        """Replace a scheduled call by `request`, which must have a `call_time`.

        Source: the API document, "Call Edit".
        """
        await self._carry_out(self._wire.edit(call_id, request))

    async def delete(self, call_id: str) -> None:
        """Take a call off the books. One that an earlier attempt of the same operation may have
        deleted already is deleted. Source: the API document, "Call Delete"."""
        await self._carry_out(self._wire.delete(call_id))

    async def wait(
        self,
        call_id: str,
        call_flow_id: str,
        *,
        timeout: float | None = None,
        interval: float = 2.0,
    ) -> CallStatus:
        """Poll every `interval` seconds until the call completed, failed or was deleted.

        `DeadlineExceededError` if that takes more than `timeout` seconds.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        with anyio.move_on_after(timeout):
            async with aclosing(self.watch(call_id, call_flow_id, interval=interval)) as statuses:
                async for status in statuses:
                    if status.is_final:
                        return status
        raise DeadlineExceededError(f"wait: the call was not final within {timeout:g} s")

    async def watch(
        self, call_id: str, call_flow_id: str, *, interval: float = 2.0
    ) -> AsyncGenerator[CallStatus, None]:
        """Poll every `interval` seconds and yield the status each time it changed, the final one
        last. A call that is not listed yet is waited for, for 10 seconds."""
        check_seconds("interval", interval)
        latest: CallStatus | None = None
        listed_by = current_time() + _LISTING_SECONDS
        while True:
            try:
                status = await self.status(call_id, call_flow_id)
            except NotFoundError:
                if latest is not None or current_time() > listed_by:
                    raise
            else:
                if latest is None or _news(status) != _news(latest):
                    yield status
                latest = status
                if status.is_final:
                    return
            await anyio.sleep(interval)

    def bridge_many(
        self,
        requests: Iterable[BridgeRequest] | AsyncIterable[BridgeRequest],
        concurrency: int | None = None,
    ) -> FanOut[BridgeRequest, Outcome]:
        """Put many calls on the books, at most `concurrency` at a time (by default
        `max_connections`), and yield one outcome each in the order they finish.

        The input is read lazily. An item that is no good is `Refused`; an exception of the input
        itself ends the reading and is raised after the outcomes of what was read.
        """
        return self._fan_out(
            requests,
            concurrency,
            self._wire.create,
            lambda run, index, request, call: Scheduled(index, request, call.call_id, run.attempts),
        )

    def status_many(
        self,
        calls: Iterable[tuple[str, str]] | AsyncIterable[tuple[str, str]],
        concurrency: int | None = None,
    ) -> FanOut[tuple[str, str], Done[CallStatus] | Refused]:
        """`status` for many `(call_id, call_flow_id)`, as `bridge_many`."""
        return self._fan_out(calls, concurrency, lambda call: self._wire.status(*call), _done)

    def edit_many(
        self,
        edits: Iterable[tuple[str, BridgeRequest]] | AsyncIterable[tuple[str, BridgeRequest]],
        concurrency: int | None = None,
    ) -> FanOut[tuple[str, BridgeRequest], Done[None] | Refused]:
        """`edit` for many `(call_id, request)`, as `bridge_many`."""
        return self._fan_out(edits, concurrency, lambda edit: self._wire.edit(*edit), _done)

    def delete_many(
        self,
        call_ids: Iterable[str] | AsyncIterable[str],
        concurrency: int | None = None,
    ) -> FanOut[str, Done[None] | Refused]:
        """`delete` for many call ids, as `bridge_many`."""
        return self._fan_out(call_ids, concurrency, self._wire.delete, _done)

    def _fan_out(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        concurrency: int | None,
        write: Callable[[Any], Message],
        succeed: Callable[[Run, int, Any, Any], Any],
    ) -> FanOut[Any, Any]:
        self._check_open()
        concurrency = self._max_connections if concurrency is None else concurrency
        check_count("concurrency", concurrency)
        return FanOut(
            items,
            concurrency=concurrency,
            pipeline=self._pipeline,
            write=write,
            succeed=succeed,
        )

    def _carry_out(self, message: Message) -> Awaitable[Any]:
        self._check_open()
        return self._pipeline.carry_out(self._pipeline.begin(message))

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("this AsyncBridgeClient is closed")


def _done(_run: Run, index: int, item: Any, result: Any) -> Done[Any]:
    return Done(index, item, result)


def _news(status: CallStatus) -> tuple[CallStatus, list[Any]]:
    """What makes a status another one: also a word that is not known, and nothing else of `raw`,
    which may hold the service's clock."""
    words = [
        status.raw.get(name)
        for name, state in (
            ("callStatus", status.call_status),
            ("firstRecipientStatus", status.first_recipient_status),
            ("secondRecipientStatus", status.second_recipient_status),
        )
        if state in {CallState.UNKNOWN, LegState.UNKNOWN}
    ]
    return evolve(status, raw={}), words


def _exchanger(
    transport: httpx.AsyncBaseTransport | None, http_client: httpx.AsyncClient | None
) -> Exchanger:
    if http_client is not None:
        return ClientExchanger(http_client)
    if transport is None:
        return Pool()
    return transport if isinstance(transport, Exchanger) else TransportExchanger(transport)
