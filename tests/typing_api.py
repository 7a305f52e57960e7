"""Uses every public signature. It is only type-checked, never run."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any, assert_never, assert_type
from zoneinfo import ZoneInfo

import httpx

from innocalls_async import (
    APIError,
    AsyncBridgeClient,
    AuthenticationError,
    BadRequestError,
    BridgeRequest,
    CallState,
    CallStatus,
    DeadlineExceededError,
    Done,
    GoneError,
    InDoubt,
    InnoCallsError,
    LegState,
    MethodNotAllowedError,
    NotAcceptableError,
    NotFoundError,
    NotSentError,
    Outcome,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitedError,
    RateLimiter,
    RedirectError,
    Refused,
    ResponseError,
    RetryPolicy,
    Scheduled,
    ScheduledCall,
    ServerError,
    ServiceUnavailableError,
    TeapotError,
    TokenBucket,
    ValidationError,
)
from innocalls_async.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    LimiterWaited,
    OperationEnded,
    OperationStarted,
    OutcomeWord,
    Paused,
    RetryPlanned,
)
from innocalls_async.fanout import FanOut, Progress
from innocalls_async.transport import fast_transport


def request(moment: datetime) -> BridgeRequest:
    made = BridgeRequest("flow", "201123456789", "Ahmed", "966512345678", "منى", 2)
    BridgeRequest(
        call_flow_id="flow",
        first_callee_number="201123456789",
        first_callee_name="Ahmed",
        second_callee_number="966512345678",
        second_callee_name="منى",
        duration=2,
        call_time=moment,
    )
    assert_type(made.call_flow_id, str)
    assert_type(made.first_callee_number, str)
    assert_type(made.second_callee_name, str)
    assert_type(made.duration, int)
    assert_type(made.call_time, datetime | None)
    assert_type(made.masked(), BridgeRequest)
    return made


def status(found: CallStatus) -> None:
    assert_type(found.scheduled_date_time, datetime | None)
    assert_type(found.actual_date_time, datetime | None)
    assert_type(found.call_duration, timedelta | None)
    assert_type(found.caller_id, str | None)
    assert_type(found.first_recipient_name, str | None)
    assert_type(found.first_recipient_number, str | None)
    assert_type(found.first_recipient_status, LegState | None)
    assert_type(found.second_recipient_name, str | None)
    assert_type(found.second_recipient_number, str | None)
    assert_type(found.second_recipient_status, LegState | None)
    assert_type(found.call_status, CallState | None)
    assert_type(found.call_id, str | None)
    assert_type(found.raw, Mapping[str, Any])
    assert_type(found.is_final, bool)
    assert_type(CallState("pending").is_final, bool)


async def limiters() -> list[RateLimiter]:
    class Shared:
        async def acquire(self) -> None: ...

    async def sleep(seconds: float) -> None: ...

    bucket = TokenBucket(50)
    TokenBucket(2.5, 60.0, 3, clock=lambda: 0.0, sleep=sleep)
    TokenBucket(rate=1, per=1, burst=None)
    assert_type(await bucket.acquire(), None)
    assert_type(bucket.slow_down(), None)
    assert_type(bucket.try_acquire(), bool)
    assert_type(bucket.postpone(bucket.last_grant, 1.0), float)
    assert_type(bucket.current_rate, float)
    assert_type(bucket.burst, int)
    return [bucket, Shared()]


def on_event(event: Event) -> None:
    assert_type(event.operation, str)
    assert_type(event.number, int)
    assert_type(event.attempt, int)
    assert_type(event.seconds, float)
    if isinstance(event, OperationStarted):
        assert_type(event.method, str)
        assert_type(event.address, str)
    elif isinstance(event, AttemptEnded):
        assert_type(event.status, int | None)
        assert_type(event.error, str | None)
    elif isinstance(event, RetryPlanned):
        assert_type(event.reason, str)
    elif isinstance(event, OperationEnded):
        assert_type(event.outcome, OutcomeWord)
        assert_type(event.error, str | None)
    elif isinstance(event, LimiterWaited | AttemptStarted | Paused):
        assert_type(event.seconds, float)


def clients(http_client: httpx.AsyncClient, context: ssl.SSLContext) -> list[AsyncBridgeClient]:
    return [
        AsyncBridgeClient(),
        AsyncBridgeClient("token"),
        AsyncBridgeClient(
            token=None,
            base_url="https://example.com",
            limiter=None,
            retry=None,
            timeout=30,
            deadline=None,
            max_connections=100,
            timezone="Africa/Cairo",
            body_format="multipart",
            transport=fast_transport(100, verify=context),
            http_client=None,
            on_event=on_event,
            allow_plain_http=False,
        ),
        AsyncBridgeClient(
            limiter=TokenBucket(5),
            retry=RetryPolicy(
                attempts=5, initial=0.5, maximum=20, max_retry_after=120, creates="never_twice"
            ),
            deadline=60.0,
            timezone=ZoneInfo("Asia/Riyadh"),
            body_format="urlencoded",
            http_client=http_client,
            on_event=None,
        ),
        AsyncBridgeClient(retry=RetryPolicy(creates="always"), transport=fast_transport()),
    ]


async def operations(made: BridgeRequest) -> None:
    async with AsyncBridgeClient("token") as client:
        assert_type(client, AsyncBridgeClient)
        assert_type(await client.authorize(), None)
        call = await client.bridge(made)
        assert_type(call, ScheduledCall)
        assert_type(call.call_id, str)
        assert_type(call.request, BridgeRequest)
        assert_type(await client.status(call.call_id, "flow"), CallStatus)
        assert_type(await client.edit(call.call_id, made), None)
        assert_type(await client.delete(call.call_id), None)
        assert_type(await client.wait(call.call_id, "flow"), CallStatus)
        assert_type(await client.wait("id-1", "flow", timeout=60, interval=2), CallStatus)
        watching = client.watch("id-1", "flow", interval=2.0)
        assert_type(watching, AsyncGenerator[CallStatus, None])
        assert_type(await client.aclose(), None)


async def fan_outs(client: AsyncBridgeClient, made: BridgeRequest) -> None:
    async def trickle() -> AsyncIterator[BridgeRequest]:
        yield made

    fan = client.bridge_many([made], concurrency=5)
    assert_type(fan, FanOut[BridgeRequest, Outcome])
    async for outcome in client.bridge_many(trickle()):
        assert_type(outcome.index, int)
        match outcome:
            case Scheduled():
                assert_type(outcome.request, BridgeRequest)
                assert_type(outcome.call_id, str)
            case Refused():
                assert_type(outcome.request, Any)
                assert_type(outcome.error, Exception)
            case InDoubt():
                assert_type(outcome.request, BridgeRequest)
                assert_type(outcome.error, OutcomeUnknownError)
            case _:
                assert_never(outcome)
    assert_type(fan.progress, Progress)
    assert_type(fan.progress.read, int)
    assert_type(fan.progress.finished, int)
    assert_type(fan.progress.taken, int)
    assert_type(fan.progress.is_complete, bool)
    assert_type(fan.untaken, list[Outcome])
    assert_type(await fan.aclose(), None)
    async for read in client.status_many([("id-1", "flow")], concurrency=None):
        assert_type(read, Done[CallStatus] | Refused)
    async for edited in client.edit_many([("id-1", made)]):
        assert_type(edited, Done[None] | Refused)
    async for deleted in client.delete_many(["id-1"]):
        assert_type(deleted, Done[None] | Refused)


def errors(error: InnoCallsError) -> None:
    assert_type(error.attempts, int)
    assert_type(error.elapsed, float)
    if isinstance(error, ValidationError):
        assert_type(error.errors, dict[str, list[str]])
    if isinstance(error, RateLimitedError | ServerError):
        assert_type(error.retry_after, float | None)
    if isinstance(error, OutcomeUnknownError):
        assert_type(error.request, BridgeRequest | None)
        assert_type(error.cause, InnoCallsError | None)
    if isinstance(error, APIError):
        assert_type(error.status_code, int | None)
        assert_type(error.message, str)
        assert_type(error.body, str)
        assert_type(error.headers, dict[str, str])
        assert_type(error.request_id, str | None)


KINDS: list[type[InnoCallsError]] = [
    AuthenticationError,
    BadRequestError,
    DeadlineExceededError,
    GoneError,
    MethodNotAllowedError,
    NotAcceptableError,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    RedirectError,
    ResponseError,
    ServiceUnavailableError,
    TeapotError,
]
