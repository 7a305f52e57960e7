"""One operation from its message to its ending, over scripted replies and on a time that jumps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import pytest
from clocks import virtual_backend as anyio_backend  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Step, a_client, a_request, created, reply, status_reply

import innocalls_async as api
from innocalls_async import AsyncBridgeClient, RetryPolicy, TokenBucket

pytestmark = pytest.mark.anyio

REFUSED = httpx.ConnectError("refused")
LOST = httpx.ReadError("reset")
UNREADABLE = reply(200, b"<html>")
SOON = datetime(2030, 4, 23, 10, 30, tzinfo=UTC)
TRACE = "connection.connect_tcp.started"


async def connecting(request: httpx.Request) -> httpx.Response:
    """A connection that is never made, as httpcore reports it."""
    await request.extensions["trace"](TRACE, {})
    await anyio.sleep(1000)
    raise AssertionError


def failed(status: int, retry_after: str | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return reply(status, {"status": status, "success": False, "message": "no"}, headers)


async def bridge(client: AsyncBridgeClient) -> object:
    return await client.bridge(a_request())


async def status(client: AsyncBridgeClient) -> object:
    return await client.status("id-1", "flow")


async def delete(client: AsyncBridgeClient) -> None:
    await client.delete("id-1")


async def authorize(client: AsyncBridgeClient) -> None:
    await client.authorize()


class TestRetries:
    @pytest.mark.parametrize("step", [REFUSED, connecting, failed(500), failed(503), failed(429)])
    async def test_a_create_is_sent_again_where_nobody_can_be_dialled_twice(
        self, step: Step
    ) -> None:
        """After what was not sent, a 429, and a 500 or 503, which the document says to retry."""
        client, script = a_client(step, step, created("id-7"), timeout=5.0)
        async with client:
            call = await client.bridge(a_request())
        assert call.call_id == "id-7"
        assert len(script.requests) == 3

    @pytest.mark.parametrize(
        "step", [LOST, UNREADABLE, failed(502), failed(504), failed(408), failed(520), 100.0]
    )
    async def test_a_create_that_may_have_happened_is_in_doubt(self, step: Step) -> None:
        """It is sent once, and the error has the request and the reason."""
        client, script = a_client(step, created(), timeout=5.0)
        async with client:
            with pytest.raises(
                api.OutcomeUnknownError, match=r"^create: .*may or may not"
            ) as caught:
                await client.bridge(a_request())
        assert len(script.requests) == 1
        assert caught.value.request == a_request()
        assert isinstance(caught.value.cause, api.InnoCallsError)
        assert caught.value.attempts == 1

    @pytest.mark.parametrize("step", [REFUSED, LOST, failed(500), failed(502), failed(429), 100.0])
    async def test_an_idempotent_operation_is_sent_again(self, step: Step) -> None:
        """Reading, editing and deleting twice does no harm."""
        client, script = a_client(step, status_reply("pending"), timeout=5.0)
        async with client:
            assert await status(client)
        assert len(script.requests) == 2

    @pytest.mark.parametrize(
        ("step", "kind"),
        [
            (REFUSED, api.NotSentError),
            (connecting, api.NotSentError),
            (LOST, api.ResponseError),
            (100.0, api.DeadlineExceededError),
            (failed(500), api.ServerError),
            (failed(503), api.ServiceUnavailableError),
            (failed(429), api.RateLimitedError),
        ],
    )
    async def test_after_the_last_attempt_the_error_says_how_it_ended(
        self, step: Step, kind: type[Exception]
    ) -> None:
        """At most `attempts` exchanges, and the last one's error with their number."""
        client, script = a_client(step, timeout=5.0, retry=RetryPolicy(attempts=3))
        began = anyio.current_time()
        async with client:
            with pytest.raises(kind) as caught:
                await delete(client)
        assert type(caught.value) is kind
        assert isinstance(caught.value, api.InnoCallsError)
        assert caught.value.attempts == len(script.requests) == 3
        assert caught.value.elapsed == pytest.approx(anyio.current_time() - began)

    @pytest.mark.parametrize("step", [REFUSED, failed(503), failed(429)])
    async def test_without_a_policy_there_is_one_attempt(self, step: Step) -> None:
        """`retry=None` leaves it all to the caller."""
        client, script = a_client(step, retry=None)
        async with client:
            with pytest.raises(api.InnoCallsError):
                await bridge(client)
        assert len(script.requests) == 1

    async def test_a_quota_that_is_used_up_is_no_retry_after(self) -> None:
        """A 503 that only tells of its quota neither waits for that nor is by the document."""
        quota = {"X-RateLimit-Remaining": "99", "X-RateLimit-Reset": "2999"}
        busy = reply(503, {"message": "no"}, quota)
        client, script = a_client(busy, created())
        async with client:
            await bridge(client)
        assert len(script.requests) == 2
        client, script = a_client(busy, retry=RetryPolicy(creates="never_twice"))
        async with client:
            with pytest.raises(api.OutcomeUnknownError):
                await bridge(client)
        assert len(script.requests) == 1

    async def test_not_sent_is_said_only_where_nothing_ever_left(self) -> None:
        """After an attempt that the service answered, its answer is the error."""
        client, script = a_client(failed(500), REFUSED, retry=RetryPolicy(attempts=3))
        async with client:
            with pytest.raises(api.ServerError) as caught:
                await bridge(client)
        assert caught.value.attempts == len(script.requests) == 3

    async def test_a_doubt_has_its_cause(self) -> None:
        """What left it open is behind the error, in a traceback too."""
        client, _ = a_client(failed(502))
        async with client:
            with pytest.raises(api.OutcomeUnknownError) as caught:
                await bridge(client)
        assert isinstance(caught.value.cause, api.ServerError)
        assert caught.value.__cause__ is caught.value.cause

    async def test_a_status_that_cannot_be_read_is_asked_for_once_more(self) -> None:
        """A second unreadable reply is an error."""
        client, script = a_client(UNREADABLE)
        async with client:
            with pytest.raises(api.ResponseError):
                await status(client)
        assert len(script.requests) == 2

    async def test_a_status_is_asked_once_more_whatever_came_before(self) -> None:
        """The one more that an unreadable reply earns is not used up by a 500."""
        client, script = a_client(failed(500), UNREADABLE, status_reply("pending"))
        async with client:
            assert await status(client)
        assert len(script.requests) == 3

    async def test_an_edit_that_cannot_be_read_is_an_error(self) -> None:
        """Nothing says that it went well."""
        client, script = a_client(UNREADABLE)
        async with client:
            with pytest.raises(api.ResponseError):
                await client.edit("id-1", a_request(call_time=SOON))
        assert len(script.requests) == 1

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410, 418, 422, 302])
    async def test_a_refusal_is_final(self, status: int) -> None:
        """What the service said no to is not asked again."""
        client, script = a_client(failed(status))
        async with client:
            with pytest.raises(api.APIError):
                await bridge(client)
        assert len(script.requests) == 1


class TestDelete:
    @pytest.mark.parametrize("step", [LOST, 100.0])
    @pytest.mark.parametrize(
        "gone", [failed(404), failed(410), reply(200, {"success": False, "status": 404})]
    )
    async def test_one_that_an_earlier_attempt_may_have_done_is_done(
        self, step: Step, gone: Step
    ) -> None:
        """The call is gone, and it was us."""
        client, script = a_client(step, gone, timeout=5.0)
        async with client:
            await delete(client)
        assert len(script.requests) == 2

    @pytest.mark.parametrize(
        "steps",
        [[], [REFUSED], [connecting], *([failed(status)] for status in (429, 500, 502, 503))],
    )
    async def test_one_that_was_gone_before_us_is_an_error(self, steps: list[Step]) -> None:
        """Nothing of ours can have deleted it."""
        client, _ = a_client(*steps, failed(404), timeout=5.0)
        async with client:
            with pytest.raises(api.NotFoundError):
                await delete(client)

    async def test_one_that_cannot_be_read_is_done(self) -> None:
        """A 2xx is a yes, whatever it says."""
        client, _ = a_client(UNREADABLE)
        async with client:
            await delete(client)


class TestCreates:
    @pytest.mark.parametrize(
        "step", [failed(500), failed(503), reply(503, b"", {"Retry-After": "1"})]
    )
    async def test_never_twice_puts_server_errors_in_doubt(self, step: Step) -> None:
        """Only what certainly came to nothing is sent again."""
        client, script = a_client(step, created(), retry=RetryPolicy(creates="never_twice"))
        async with client:
            with pytest.raises(api.OutcomeUnknownError):
                await bridge(client)
        assert len(script.requests) == 1

    @pytest.mark.parametrize("step", [failed(503, "1"), failed(429), REFUSED])
    async def test_never_twice_sends_again_what_was_turned_away(self, step: Step) -> None:
        """A 503 by the document, a 429, and what was not sent."""
        client, script = a_client(step, created(), retry=RetryPolicy(creates="never_twice"))
        async with client:
            await bridge(client)
        assert len(script.requests) == 2

    @pytest.mark.parametrize("step", [LOST, failed(502), UNREADABLE, 100.0])
    async def test_always_sends_again_what_may_have_happened(self, step: Step) -> None:
        """It is the caller's choice, and by its name."""
        client, script = a_client(step, created(), retry=RetryPolicy(creates="always"), timeout=5.0)
        async with client:
            await bridge(client)
        assert len(script.requests) == 2

    @pytest.mark.parametrize("last", [failed(400), REFUSED, failed(404), failed(503)])
    async def test_a_doubt_is_not_settled_by_a_later_no(self, last: Step) -> None:
        """With "always", an earlier attempt may have dialled though the last one did not."""
        policy = RetryPolicy(attempts=2, creates="always")
        client, script = a_client(LOST, last, retry=policy)
        async with client:
            with pytest.raises(api.OutcomeUnknownError):
                await bridge(client)
        assert len(script.requests) == 2


class TestPauses:
    @pytest.mark.parametrize("status", [500, 503])
    async def test_a_retry_after_is_kept_to(self, status: int) -> None:
        """The next attempt goes no sooner than the service asked for."""
        client, script = a_client(failed(status, "7"), created())
        async with client:
            await bridge(client)
        assert script.times[1] - script.times[0] == pytest.approx(7.0, abs=0.01)

    @pytest.mark.parametrize("status", [429, 503])
    async def test_one_that_asks_for_too_much_ends_it_at_once(self, status: int) -> None:
        """Above `max_retry_after` nothing is waited for, and the error says so."""
        client, script = a_client(failed(status, "121"))
        began = anyio.current_time()
        async with client:
            with pytest.raises(api.APIError, match="asks to wait 121 s, more than max_retry_after"):
                await bridge(client)
        assert len(script.requests) == 1
        assert anyio.current_time() == began

    async def test_a_429_pauses_everyone(self) -> None:
        """No operation of the client goes before the pause is over, and then one probes."""
        client, script = a_client(failed(429, "5"), 1.0)
        began = anyio.current_time()
        async with client, anyio.create_task_group() as group:
            group.start_soon(bridge, client)
            await anyio.sleep(0.5)
            for _ in range(3):
                group.start_soon(bridge, client)
        assert [at - began for at in script.times] == pytest.approx([0, 5, 6, 6, 6])

    async def test_a_429_costs_nothing_of_the_budget(self) -> None:
        """Two hundred refused attempts leave all of it for server errors."""
        client, script = a_client(*[failed(429, "0.1")] * 200, failed(503), created())
        async with client:
            for _ in range(40):
                with pytest.raises(api.RateLimitedError):
                    await authorize(client)
            await bridge(client)
        assert len(script.requests) == 202

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}, 9.0),
            ({"RateLimit": '"p";r=0;t=4'}, 4.0),
            ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "500"}, 120.0),
            ({"X-RateLimit-Remaining": "0"}, 0.5),
            ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0"}, 0.0),
            ({"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "9"}, 0.0),
        ],
    )
    async def test_a_used_up_quota_pauses_before_the_429(
        self, headers: dict[str, str], seconds: float
    ) -> None:
        """The next operation waits for the reset, at most `max_retry_after`."""
        client, script = a_client(created(headers=headers), created())
        async with client:
            await bridge(client)
            await bridge(client)
        assert script.times[1] - script.times[0] == pytest.approx(seconds)

    async def test_an_outage_is_not_multiplied(self) -> None:
        """The budget lets a hundred retries through, whoever makes them."""
        client, script = a_client(failed(503))
        errors: list[Exception] = []

        async def try_it() -> None:
            try:
                await bridge(client)
            except api.ServiceUnavailableError as error:
                errors.append(error)

        async with client, anyio.create_task_group() as group:
            for _ in range(600):
                group.start_soon(try_it)
        assert len(errors) == 600
        assert len(script.requests) == 700


class TestDeadline:
    async def test_during_the_wait_for_the_limiter(self) -> None:
        """Nothing was sent, and the error says so: no attempt was made."""
        client, script = a_client(limiter=TokenBucket(1, per=60), deadline=3.0)
        async with client:
            await bridge(client)
            began = anyio.current_time()
            with pytest.raises(api.DeadlineExceededError, match="deadline of 3 s") as caught:
                await bridge(client)
        assert anyio.current_time() - began == pytest.approx(3.0)
        assert caught.value.attempts == 0
        assert len(script.requests) == 1

    async def test_during_a_creates_attempt(self) -> None:
        """Its bytes may have left: it is in doubt, because of the deadline."""
        client, _ = a_client(100.0, deadline=3.0)
        async with client:
            with pytest.raises(api.OutcomeUnknownError) as caught:
                await bridge(client)
        assert isinstance(caught.value.cause, api.DeadlineExceededError)
        assert caught.value.elapsed == pytest.approx(3.0)

    async def test_during_a_creates_connecting(self) -> None:
        """None of its bytes can have left: it is not in doubt."""
        client, _ = a_client(connecting, deadline=3.0)
        async with client:
            with pytest.raises(api.DeadlineExceededError):
                await bridge(client)

    async def test_during_an_idempotent_attempt(self) -> None:
        """It can be done again."""
        client, _ = a_client(100.0, deadline=3.0)
        async with client:
            with pytest.raises(api.DeadlineExceededError):
                await status(client)

    @pytest.mark.parametrize("step", [failed(503, "10"), failed(429, "10"), failed(500, "3")])
    async def test_no_pause_begins_that_would_end_past_it(self, step: Step) -> None:
        """What cannot be in time fails at once, and says how the last attempt ended."""
        client, script = a_client(step, deadline=3.0)
        began = anyio.current_time()
        async with client:
            with pytest.raises(
                api.DeadlineExceededError, match="the last attempt ended so: create"
            ):
                await bridge(client)
        assert anyio.current_time() == began
        assert len(script.requests) == 1

    async def test_the_shared_pause_counts_for_all(self) -> None:
        """An operation that begins in a pause longer than its deadline does not wait for it."""
        client, script = a_client(failed(429, "10"), deadline=3.0)
        began = anyio.current_time()
        async with client:
            for _ in range(5):
                with pytest.raises(api.DeadlineExceededError):
                    await bridge(client)
        assert anyio.current_time() == began
        assert len(script.requests) == 1

    async def test_a_create_already_in_doubt_stays_so(self) -> None:
        """With "always", the deadline after a lost answer leaves the doubt."""
        client, _ = a_client(
            LOST, failed(503, "9"), deadline=3.0, retry=RetryPolicy(creates="always")
        )
        async with client:
            with pytest.raises(api.OutcomeUnknownError):
                await bridge(client)

    async def test_a_create_in_doubt_while_it_waits_stays_so(self) -> None:
        """The wait for the limiter after a lost answer is no proof that nothing was sent."""
        client, _ = a_client(
            LOST,
            deadline=3.0,
            limiter=TokenBucket(1, per=60),
            retry=RetryPolicy(creates="always"),
        )
        async with client:
            with pytest.raises(
                api.OutcomeUnknownError, match="ended so: create: the answer was lost"
            ):
                await bridge(client)


STEPS: dict[str, Step] = {
    "refused": REFUSED,
    "connecting": connecting,
    "lost": LOST,
    "silent": 1000.0,
    "unreadable": UNREADABLE,
    "429": failed(429),
    "429 later": failed(429, "4"),
    "500": failed(500),
    "502": failed(502),
    "503": failed(503, "2"),
    "400": failed(400),
    "404": failed(404),
    "created": created(),
}
DOUBTFUL = {"lost", "silent", "unreadable", "502"}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6),
    st.integers(1, 5),
    st.none() | st.floats(0.1, 30),
    st.sampled_from([bridge, status, delete, authorize]),
)
async def test_whatever_happens_the_bounds_hold(
    names: list[str], attempts: int, deadline: float | None, operate: Any
) -> None:
    """No more exchanges than `attempts`, nothing past the deadline, a typed error, and a create
    in doubt exactly if its last attempt was doubtful."""
    policy = RetryPolicy(attempts=attempts, maximum=3.0)
    client, script = a_client(
        *(STEPS[name] for name in names), retry=policy, deadline=deadline, timeout=5.0
    )
    began = anyio.current_time()
    error: Exception | None = None
    async with client:
        try:
            await operate(client)
        except api.InnoCallsError as caught:
            error = caught
    made = len(script.requests)
    assert 1 <= made <= attempts
    if deadline is not None:
        assert anyio.current_time() - began <= deadline + 1e-6
    met = [names[min(index, len(names) - 1)] for index in range(made)]
    if operate is bridge:
        assert isinstance(error, api.OutcomeUnknownError) is (met[-1] in DOUBTFUL)
        assert not DOUBTFUL & set(met[:-1])
    else:
        assert not isinstance(error, api.OutcomeUnknownError)
    if error is not None:
        assert error.attempts == made  # type: ignore[attr-defined]
