"""What the client tells while it works: events, and the log that is built on them."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import attrs
import httpx
import pytest
from clocks import virtual_backend as anyio_backend  # noqa: F401 - a fixture
from scripted import FIRST, SECOND, TOKEN, a_client, a_request, created, reply

from innocalls_async import (
    BadRequestError,
    DeadlineExceededError,
    OutcomeUnknownError,
    TokenBucket,
    events,
)

pytestmark = pytest.mark.anyio

ADDRESS = "https://api.bridge.innocalls.com/api/v1"
REFUSED = httpx.ConnectError("refused")


def untimed(event: events.Event) -> events.Event:
    return attrs.evolve(event, seconds=0.0)


async def test_a_success_tells_its_steps() -> None:
    """Begun, admitted, attempted, answered, done: each with its number and its seconds."""
    seen: list[events.Event] = []
    client, _ = a_client(2.0, limiter=TokenBucket(1, per=5), on_event=seen.append)
    async with client:
        await client.bridge(a_request())
        await client.bridge(a_request())
    first = seen[0].number
    assert seen[:5] == [
        events.OperationStarted("create", first, 0, 0.0, "POST", ADDRESS),
        events.LimiterWaited("create", first, 1, 0.0),
        events.AttemptStarted("create", first, 1, 0.0),
        events.AttemptEnded("create", first, 1, 2.0, 200, None),
        events.OperationEnded("create", first, 1, 2.0, "done", None),
    ]
    waited, ended = seen[6], seen[-1]
    assert untimed(waited) == events.LimiterWaited("create", first + 1, 1, 0.0)
    # A little more than 3: in the first second, an answer's delay is held against the limit.
    assert 3.0 <= waited.seconds < 3.3
    assert ended.seconds == pytest.approx(waited.seconds + 2.0, abs=0.01)


async def test_a_pause_before_the_429_is_told_too() -> None:
    """Where the quota is used up: until it is said, or for `RetryPolicy.initial`."""
    seen: list[events.Event] = []
    used_up = {"X-RateLimit-Remaining": "0"}
    client, _ = a_client(
        created(headers={**used_up, "X-RateLimit-Reset": "3"}),
        created(headers=used_up),
        created(),
        on_event=seen.append,
    )
    async with client:
        for _ in range(3):
            await client.bridge(a_request())
    assert [event.seconds for event in seen if isinstance(event, events.Paused)] == [3.0, 0.5]


async def test_an_attempt_that_is_cut_off_has_an_end() -> None:
    """Whatever begins ends: also where a deadline or a cancellation is the reason."""
    seen: list[events.Event] = []
    client, _ = a_client(100.0, deadline=1.0, on_event=seen.append)
    async with client:
        with pytest.raises(OutcomeUnknownError):
            await client.bridge(a_request())
    (ended,) = [event for event in seen if isinstance(event, events.AttemptEnded)]
    assert ended.status is None
    assert ended.seconds == pytest.approx(1.0)
    assert ended.error in {"CancelledError", "Cancelled"}


async def test_a_listener_can_have_headers_sent() -> None:
    """Its own, with the attempt that it was told of, and none that is ours to set or no header."""

    def listen(event: events.Event) -> None:
        if isinstance(event, events.AttemptStarted):
            more: dict[str, Any] = {"X-Split": "a\r\nX-Other: b", "X Y": "c", "X-Number": 1}
            event.headers.update(more, authorization="Bearer stolen")
            event.headers.update({"X-Trace": f"a {event.attempt}", "Content-Length": "1"})

    client, script = a_client(reply(500, {}), created(), on_event=listen)
    async with client:
        await client.bridge(a_request())
    assert [sent.headers["X-Trace"] for sent in script.requests] == ["a 1", "a 2"]
    for sent in script.requests:
        assert sent.headers.get_list("Authorization") == [f"Bearer {TOKEN}"]
        assert sent.headers["Content-Length"] != "1"
        assert not {"x-split", "x-other", "x y", "x-number"} & set(sent.headers)


async def test_operations_of_several_clients_are_told_apart() -> None:
    """No two operations of a process have the same number."""
    seen: list[events.Event] = []
    (one, _), (other, _) = a_client(on_event=seen.append), a_client(on_event=seen.append)
    async with one, other:
        await one.bridge(a_request())
        await other.bridge(a_request())
    started = [event.number for event in seen if isinstance(event, events.OperationStarted)]
    assert len(set(started)) == 2


async def test_retries_and_pauses_are_told() -> None:
    """A pause says how long, a retry why and in how many seconds."""
    seen: list[events.Event] = []
    limited = reply(429, {}, {"Retry-After": "3"})
    busy = reply(503, {}, {"Retry-After": "4"})
    client, _ = a_client(limited, busy, REFUSED, created(), on_event=seen.append)
    async with client:
        await client.bridge(a_request())
    kinds = [type(event).__name__ for event in seen if not isinstance(event, events.LimiterWaited)]
    assert kinds == [
        "OperationStarted",
        *("AttemptStarted", "Paused", "AttemptEnded", "RetryPlanned"),
        *("AttemptStarted", "AttemptEnded", "RetryPlanned"),
        *("AttemptStarted", "AttemptEnded", "RetryPlanned"),
        *("AttemptStarted", "AttemptEnded"),
        "OperationEnded",
    ]
    assert [event.seconds for event in seen if isinstance(event, events.Paused)] == [3.0]
    planned = [event for event in seen if isinstance(event, events.RetryPlanned)]
    assert [event.reason for event in planned] == ["limited", "unavailable", "not_sent"]
    assert [event.attempt for event in planned] == [1, 2, 3]
    assert planned[0].seconds == pytest.approx(3)
    assert planned[1].seconds >= 4
    ended = [event for event in seen if isinstance(event, events.AttemptEnded)]
    assert [(event.status, event.error) for event in ended] == [
        (429, "RateLimitedError"),
        (503, "ServiceUnavailableError"),
        (None, "NotSentError"),
        (200, None),
    ]


@pytest.mark.parametrize(
    ("step", "kind", "outcome"),
    [
        (reply(400, {}), BadRequestError, "refused"),
        (httpx.ReadError("reset"), OutcomeUnknownError, "in_doubt"),
    ],
)
async def test_a_failure_tells_its_outcome(
    step: httpx.Response | Exception, kind: type[Exception], outcome: str
) -> None:
    """Refused and in doubt are told apart, with the error's class."""
    seen: list[events.Event] = []
    client, _ = a_client(step, on_event=seen.append)
    async with client:
        with pytest.raises(kind):
            await client.bridge(a_request())
    ended = seen[-1]
    assert isinstance(ended, events.OperationEnded)
    assert (ended.outcome, ended.error) == (outcome, kind.__name__)


@pytest.mark.parametrize(("is_create", "outcome"), [(True, "in_doubt"), (False, "cancelled")])
async def test_a_cancelled_operation_tells_what_it_leaves(is_create: bool, outcome: str) -> None:
    """A create cut off on the wire is in doubt though nobody waits for its answer any more."""
    seen: list[events.Event] = []
    client, _ = a_client(100.0, on_event=seen.append)
    async with client:
        with anyio.move_on_after(1):
            await (client.bridge(a_request()) if is_create else client.delete("id-1"))
    ended = seen[-1]
    assert isinstance(ended, events.OperationEnded)
    assert (ended.outcome, ended.attempt, ended.seconds) == (outcome, 1, 1.0)


async def test_a_failing_callback_is_logged_once_and_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The call goes on, and the log is not flooded."""

    def fail(event: events.Event) -> None:
        raise LookupError("no such gauge")

    client, _ = a_client(on_event=fail)
    async with client:
        await client.bridge(a_request())
        await client.bridge(a_request())
    failures = [record for record in caplog.records if record.exc_info]
    assert len(failures) == 1
    assert failures[0].name == "innocalls_async"


class TestLog:
    async def test_it_has_every_event_at_debug(self, caplog: pytest.LogCaptureFixture) -> None:
        """One line an event, with its details and without token, numbers or names."""
        caplog.set_level(logging.DEBUG, "innocalls_async")
        client, _ = a_client(reply(500, {"message": f"{FIRST} {TOKEN}"}), created())
        async with client:
            await client.bridge(a_request())
        lines = [record.getMessage() for record in caplog.records]
        number = lines[0].split()[1]
        assert lines[0] == f"create {number} OperationStarted attempt=0 seconds=0.000"
        assert (
            f"create {number} AttemptEnded attempt=1 seconds=0.000 status=500 error=ServerError"
            in lines
        )
        assert any("RetryPlanned" in line and "reason=failed" in line for line in lines)
        assert lines[-1].endswith(" outcome=done")
        assert not any(text in caplog.text for text in (TOKEN, FIRST, SECOND, "Ahmed", "منى"))

    async def test_a_doubt_and_a_pause_are_warnings(self, caplog: pytest.LogCaptureFixture) -> None:
        """What a person has to know is logged though nobody asked for events."""
        client, _ = a_client(reply(429, {}), httpx.ReadError("reset"))
        async with client:
            with pytest.raises(OutcomeUnknownError):
                await client.bridge(a_request())
        levels = [(record.levelname, record.getMessage().split()[2]) for record in caplog.records]
        assert levels == [("WARNING", "Paused"), ("WARNING", "OperationEnded")]

    async def test_a_cancelled_create_in_doubt_is_a_warning(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nobody gets its error, so the log is the one place that has it."""
        client, _ = a_client(100.0)
        async with client:
            with anyio.move_on_after(1):
                await client.bridge(a_request())
            with anyio.move_on_after(1):
                await client.delete("id-1")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "outcome=in_doubt" in caplog.text

    async def test_it_says_nothing_while_all_goes_well(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """At the default level a success is silent, and a refusal is the caller's to log."""
        client, _ = a_client(created(), reply(400, {}), deadline=5.0)
        async with client:
            await client.bridge(a_request())
            with pytest.raises(BadRequestError):
                await client.bridge(a_request())
        assert caplog.records == []


async def test_the_deadlines_end_is_told_as_refused() -> None:
    """Nothing of it is left open."""
    seen: list[events.Event] = []
    client, _ = a_client(limiter=TokenBucket(1, per=60), deadline=1.0, on_event=seen.append)
    async with client:
        await client.delete("id-1")
        with pytest.raises(DeadlineExceededError):
            await client.delete("id-1")
    assert seen[-1] == events.OperationEnded(
        "delete", seen[0].number + 1, 0, 1.0, "refused", "DeadlineExceededError"
    )
