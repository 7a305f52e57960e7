"""Many operations from one input: one outcome each, whatever happens on the way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import pytest
from clocks import virtual_backend as anyio_backend  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import TOKEN, Script, a_client, a_request, created, reply, requests, status_reply

from innocalls_async import (
    APIError,
    BridgeRequest,
    CallStatus,
    Done,
    InDoubt,
    Outcome,
    Refused,
    RetryPolicy,
    Scheduled,
    TokenBucket,
)
from innocalls_async.fanout import FanOut, Progress
from innocalls_async.integrations.serving import ServiceClient

pytestmark = pytest.mark.anyio

SOON = datetime(2030, 4, 23, 10, 30, tzinfo=UTC)
LOST = httpx.ReadError("reset")


def counted(items: list[Any], read: list[int]) -> Iterator[Any]:
    for index, item in enumerate(items):
        read.append(index)
        yield item


async def trickling(items: list[Any], seconds: float) -> AsyncIterator[Any]:
    for item in items:
        await anyio.sleep(seconds)
        yield item


async def collect(fan: FanOut[Any, Any]) -> list[Any]:
    return [outcome async for outcome in fan]


class TestOutcomes:
    async def test_every_request_has_one_outcome(self) -> None:
        """Each index once, with its own request and call id."""
        wanted = requests(500)
        client, script = a_client(0.5)
        async with client:
            outcomes = await collect(client.bridge_many(wanted))
        assert sorted(outcome.index for outcome in outcomes) == list(range(500))
        assert all(outcome.request is wanted[outcome.index] for outcome in outcomes)
        assert len({outcome.call_id for outcome in outcomes}) == 500
        assert script.most == 100

    async def test_they_come_in_the_order_they_finish(self) -> None:
        """A slow one does not hold up the others."""
        client, _ = a_client(5.0, 1.0, 3.0)
        async with client:
            outcomes = await collect(client.bridge_many(requests(3)))
        assert [outcome.index for outcome in outcomes] == [1, 2, 0]

    async def test_the_three_kinds_are_told_apart(self) -> None:
        """Scheduled, refused and in doubt, each with what is known."""
        client, _ = a_client(created(), reply(422, {"message": "no"}), LOST, max_connections=1)
        async with client:
            scheduled, refused, in_doubt = await collect(client.bridge_many(requests(3)))
        assert isinstance(scheduled, Scheduled)
        assert isinstance(refused, Refused)
        assert isinstance(refused.error, APIError)
        assert isinstance(in_doubt, InDoubt)
        assert in_doubt.error.request == in_doubt.request == requests(3)[2]

    async def test_a_scheduled_call_says_how_many_attempts_it_took(self) -> None:
        """An account of a bulk job can tell the calls that were sent again."""
        client, _ = a_client(reply(500), created(), created(), max_connections=1)
        async with client:
            outcomes = await collect(client.bridge_many(requests(2)))
        assert [(one.index, one.attempts) for one in outcomes] == [(0, 2), (1, 1)]

    async def test_an_item_that_breaks_the_writing_is_refused(self) -> None:
        """Whatever it raises, it ends neither the stream nor, on trio, the program."""
        client, _ = a_client(status_reply("pending"))
        items: list[Any] = [("id-1", "flow"), BreaksWhenUnpacked(), ("id-2", "flow")]
        async with client:
            outcomes = await collect(client.status_many(items))
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Done", "Done", "Refused"]

    async def test_an_asynchronous_input_is_closed_with_the_stream(self) -> None:
        """Its `finally` runs when the reader leaves early, and not when it is collected."""
        ended = anyio.Event()

        async def source() -> AsyncIterator[BridgeRequest]:
            try:
                while True:
                    yield a_request()
            finally:
                ended.set()

        client, _ = a_client()
        async with client:
            outcomes = client.bridge_many(source(), concurrency=2)
            await anext(outcomes)
            await outcomes.aclose()
        assert ended.is_set()

    async def test_a_bad_item_is_refused_and_costs_no_request(self) -> None:
        """One row that is none does not end the stream."""
        items: list[Any] = [a_request(), "no request", a_request().masked(), None, a_request()]
        client, script = a_client()
        async with client:
            outcomes = sorted(await collect(client.bridge_many(items)), key=lambda o: o.index)
        assert [type(outcome).__name__ for outcome in outcomes] == [
            *("Scheduled", "Refused", "Refused", "Refused", "Scheduled")
        ]
        assert outcomes[1].request == "no request"
        assert isinstance(outcomes[1].error, TypeError)
        assert isinstance(outcomes[2].error, ValueError)
        assert len(script.requests) == 2

    async def test_the_other_three_operations_fan_out_alike(self) -> None:
        """`status_many`, `edit_many` and `delete_many` give `Done` or `Refused`."""
        client, script = a_client(status_reply("pending"))
        async with client:
            (status,) = await collect(client.status_many([("id-1", "flow")]))
            script.steps = [reply(200, {"success": True})]
            edit = ("id-1", a_request(call_time=SOON))
            (edited,) = await collect(client.edit_many([edit]))
            deleted = await collect(client.delete_many(["id-1", ".."]))
        assert isinstance(status, Done)
        assert isinstance(status.result, CallStatus)
        assert edited == Done(0, edit, None)
        assert Done(0, "id-1", None) in deleted
        assert [type(outcome) for outcome in deleted].count(Refused) == 1
        assert [sent.method for sent in script.requests] == ["GET", "PUT", "DELETE"]

    @settings(deadline=None, max_examples=30)
    @given(
        st.lists(st.sampled_from(["ok", "500", "lost", "400", "late", "bad"]), max_size=30),
        st.integers(1, 10),
    )
    async def test_no_outcome_contradicts_what_happened(
        self, fates: list[str], concurrency: int
    ) -> None:
        """Whatever becomes of each request, its outcome is the one that is true."""
        wanted: list[Any] = [
            None if fate == "bad" else request
            for fate, request in zip(fates, requests(len(fates)), strict=True)
        ]
        fate_of = {
            request.first_callee_number: fate
            for request, fate in zip(wanted, fates, strict=True)
            if request is not None
        }

        async def play(request: httpx.Request) -> httpx.Response:
            fate = next(f for number, f in fate_of.items() if number.encode() in request.content)
            if fate == "lost":
                raise LOST
            await anyio.sleep(2.0 if fate == "late" else 0.1)
            return created() if fate in {"ok", "late"} else reply(int(fate), {})

        client, script = a_client(play, retry=RetryPolicy(attempts=2), timeout=1.0)
        async with client:
            fan = client.bridge_many(wanted, concurrency=concurrency)
            outcomes = {outcome.index: outcome async for outcome in fan}
        kinds = {"ok": Scheduled, "lost": InDoubt, "late": InDoubt}
        assert [type(outcomes[index]) for index in range(len(fates))] == [
            kinds.get(fate, Refused) for fate in fates
        ]
        assert script.most <= concurrency


class TestReading:
    async def test_the_input_is_read_lazily(self) -> None:
        """No more than `concurrency` items are held, however slow the reader is."""
        read: list[int] = []
        client, script = a_client(0.1)
        async with client:
            taken = 0
            async for _ in client.bridge_many(counted(requests(60), read), concurrency=7):
                taken += 1
                await anyio.sleep(1)
                assert len(read) - taken <= 7
        assert len(script.requests) == 60
        assert script.most <= 7

    async def test_nothing_is_read_before_the_first_outcome_is_asked_for(self) -> None:
        """Making one does nothing."""
        read: list[int] = []
        client, _ = a_client()
        async with client:
            fan = client.bridge_many(counted(requests(3), read))
            await anyio.sleep(1)
            assert read == []
            await fan.aclose()

    async def test_an_async_input_is_read_as_it_comes(self) -> None:
        """Outcomes are yielded while the input still trickles."""
        client, _ = a_client()
        began = anyio.current_time()
        async with client:
            times = [
                anyio.current_time() - began
                async for _ in client.bridge_many(trickling(requests(4), 2.0))
            ]
        assert times == pytest.approx([2, 4, 6, 8])

    async def test_an_empty_input_has_no_outcomes(self) -> None:
        """And asking again gives none either."""
        client, _ = a_client()
        async with client:
            fan = client.bridge_many([])
            assert await collect(fan) == []
            assert await collect(fan) == []
            assert fan.progress == Progress(0, 0, 0, is_complete=True)

    async def test_the_inputs_own_failure_comes_after_the_outcomes(self) -> None:
        """What was read is carried out and yielded; then the exception is raised, once."""

        def rows() -> Iterator[BridgeRequest]:
            yield from requests(5)
            raise UnicodeError("row 6 is no text")

        client, _ = a_client(1.0)
        async with client:
            fan = client.bridge_many(rows())
            outcomes = [await anext(fan) for _ in range(5)]
            with pytest.raises(UnicodeError, match="row 6"):
                await anext(fan)
            assert await collect(fan) == []
        assert sorted(outcome.index for outcome in outcomes) == list(range(5))

    @pytest.mark.parametrize("items", [None, 5, a_request()])
    async def test_what_cannot_be_iterated_over_is_a_type_error(self, items: Any) -> None:
        """One request is no input of many."""
        client, _ = a_client()
        async with client:
            with pytest.raises(TypeError, match="an iterable or async iterable is needed"):
                client.bridge_many(items)

    @pytest.mark.parametrize("concurrency", [0, -1, 1.5, True])
    async def test_concurrency_is_a_count(self, concurrency: Any) -> None:
        """Anything but a whole number of at least 1 is refused by name."""
        client, _ = a_client()
        async with client:
            with pytest.raises((ValueError, TypeError), match=r"^concurrency: "):
                client.bridge_many([], concurrency=concurrency)


class TestProgress:
    async def test_it_counts_what_was_read_finished_and_taken(self) -> None:
        """At any moment, and to the end."""
        client, _ = a_client(1.0)
        async with client:
            fan = client.bridge_many(requests(6), concurrency=3)
            assert fan.progress == Progress(0, 0, 0, is_complete=False)
            await anext(fan)
            assert fan.progress.taken == 1
            assert fan.progress.read == 3
            await anyio.sleep(10)
            assert fan.progress == Progress(4, 4, 1, is_complete=False)
            await collect(fan)
            assert fan.progress == Progress(6, 6, 6, is_complete=True)


class TestLeaving:
    async def test_aclose_cancels_what_was_not_sent(self) -> None:
        """Those who wait for the limiter never send."""
        client, script = a_client(limiter=TokenBucket(1, per=60))
        began = anyio.current_time()
        async with client:
            fan = client.bridge_many(requests(50))
            await anext(fan)
            await fan.aclose()
            assert await collect(fan) == []
        assert len(script.requests) == 1
        assert anyio.current_time() == began
        assert fan.untaken == []

    async def test_aclose_waits_for_what_is_on_the_wire(self) -> None:
        """Its outcomes are kept in `untaken`."""
        client, script = a_client(1.0, 3.0)
        began = anyio.current_time()
        async with client:
            fan = client.bridge_many(requests(50), concurrency=5)
            await anext(fan)
            await fan.aclose()
            assert anyio.current_time() - began == pytest.approx(3.0, abs=1.01)
            untaken = fan.untaken
            assert all(isinstance(outcome, Scheduled) for outcome in untaken)
            assert 1 + len(untaken) == len(script.requests)
            assert not fan.progress.is_complete

    async def test_what_is_on_the_wire_is_not_retried(self) -> None:
        """After the reader left, an attempt under way is the last one."""
        client, script = a_client(1.0, 5.0)

        async def busy(request: httpx.Request) -> httpx.Response:
            await anyio.sleep(5)
            return reply(503, {})

        script.steps = [1.0, busy]
        async with client:
            fan = client.bridge_many(requests(4), concurrency=2)
            await anext(fan)
            await anyio.sleep(0.5)
            await fan.aclose()
        assert [type(outcome).__name__ for outcome in fan.untaken] == ["Refused", "Refused"]
        assert len(script.requests) == 3

    async def test_what_leaves_while_it_is_cancelled_is_in_doubt(self) -> None:
        """A transport that cannot be stopped between connecting and sending is reported."""

        async def unstoppable(request: httpx.Request) -> httpx.Response:
            with anyio.CancelScope(shield=True):
                await request.extensions["trace"]("connection.connect_tcp.started", {})
                await anyio.sleep(2)
                await request.extensions["trace"]("http11.send_request_headers.started", {})
            await anyio.sleep(1000)
            raise AssertionError

        client, _ = a_client(1.0, unstoppable)
        async with client:
            fan = client.bridge_many(requests(5), concurrency=2)
            await anext(fan)
            await anyio.sleep(0.5)
            await fan.aclose()
        assert [type(outcome) for outcome in fan.untaken] == [InDoubt, InDoubt]

    async def test_outcomes_that_nobody_took_are_in_untaken(self) -> None:
        """Also those that were ready before the reader left."""
        client, _ = a_client()
        async with client:
            fan = client.bridge_many(requests(9), concurrency=4)
            await anext(fan)
            await anyio.sleep(1)
            assert len(fan.untaken) == 4
            await fan.aclose()
            await fan.aclose()
            assert sorted(outcome.index for outcome in fan.untaken) == [1, 2, 3, 4]

    async def test_a_bare_break_is_safe(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing more is sent; what was on the wire is reported in the log; the client works."""
        client, script = a_client(1.0, 5.0)
        async with client:
            async for outcome in client.bridge_many(requests(50), concurrency=3):
                assert isinstance(outcome, Scheduled)
                break
            gc.collect()
            sent = len(script.requests)
            await anyio.sleep(60)
            assert len(script.requests) == sent
            script.steps = [created("after")]
            assert (await client.bridge(a_request())).call_id == "after"
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == sent - 1
        assert all("nobody took this outcome, its reader has left: Scheduled(" in x for x in lines)

    async def test_a_bare_break_reports_what_was_ready(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """All five came at once, and one was taken: the log has the other four."""
        client, script = a_client(1.0)
        async with client:
            async for _ in client.bridge_many(requests(50), concurrency=5):
                break
            gc.collect()
            await anyio.sleep(60)
        assert len(script.requests) == 5
        assert len([x for x in caplog.messages if "nobody took this outcome" in x]) == 4

    async def test_whoever_looked_at_the_untaken_needs_no_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They were accounted for when they were looked at, after the end."""
        client, _ = a_client(1.0)
        async with client:
            fan = client.bridge_many(requests(50), concurrency=5)
            await anext(fan)
            await fan.aclose()
            assert len(fan.untaken) == 4
            del fan
            gc.collect()
        assert not caplog.messages

    async def test_the_first_outcome_of_one_that_nobody_holds(self) -> None:
        """`await anext(client.bridge_many(...))` sends, and has its outcome."""
        client, script = a_client()
        async with client:
            outcome = await anext(client.bridge_many(requests(1), 1))
        assert isinstance(outcome, Scheduled)
        assert len(script.requests) == 1

    async def test_one_that_was_never_read_can_be_dropped(self) -> None:
        """No task was begun, so none is left."""
        client, script = a_client()
        async with client:
            client.bridge_many(requests(5))
            gc.collect()
            await anyio.sleep(1)
        assert script.requests == []

    async def test_a_cancelled_reader_loses_nothing(self) -> None:
        """Whoever is cancelled while it waits can read on, or close."""
        client, script = a_client(3.0)
        async with client:
            fan = client.bridge_many(requests(6), concurrency=2)
            outcomes = []
            for _ in range(20):
                with anyio.move_on_after(1):
                    async for outcome in fan:
                        outcomes.append(outcome)  # noqa: PERF401 - it is cut off
        assert sorted(outcome.index for outcome in outcomes) == list(range(6))
        assert len(script.requests) == 6

    async def test_it_can_be_closed_under_its_reader(self) -> None:
        """A reader that waits gets what was on the wire, and then the end."""
        client, _ = a_client(3.0)
        outcomes: list[Outcome] = []
        async with client:
            fan = client.bridge_many(requests(9), concurrency=2)

            async def read() -> None:
                async for outcome in fan:
                    outcomes.append(outcome)  # noqa: PERF401 - seen from outside

            with anyio.fail_after(100):
                async with anyio.create_task_group() as group:
                    group.start_soon(read)
                    await anyio.sleep(1)
                    await fan.aclose()
        assert len(outcomes) == 2

    async def test_an_async_input_that_waits_is_left(self) -> None:
        """The reading itself is cancelled."""
        client, _ = a_client()
        async with client:
            fan = client.bridge_many(trickling(requests(3), 1000.0))
            with anyio.move_on_after(1):
                await anext(fan)
            began = anyio.current_time()
            await fan.aclose()
            assert anyio.current_time() == began


class Shared:
    """A limiter of the caller's that fails in a way of its own."""

    def __init__(self, *, at: str) -> None:
        self.at = at

    async def acquire(self) -> None:
        if self.at == "acquire":
            raise OSError("the limiter's server is away")

    def postpone(self, grant: None, used_ago: float) -> None:
        if self.at == "postpone":
            raise OSError("the limiter's server is away")


async def test_what_was_given_up_between_attempts_is_told() -> None:
    """An item that had attempts and nothing on the wire is counted, with how many it had."""
    client, _ = a_client(created(), reply(503, {}, {"Retry-After": "60"}), max_connections=1)
    async with client:
        outcomes = client.bridge_many(requests(3))
        await anext(outcomes)
        with anyio.move_on_after(1):
            await anext(outcomes)
        await outcomes.aclose()
    assert outcomes.cut_short == {1: 1}


async def test_outcomes_that_nobody_took_go_to_whoever_wants_them() -> None:
    """A client for handlers hands them over as it closes, and no reader gets them as well."""
    untaken: list[Outcome] = []
    client = ServiceClient(
        on_abandoned=untaken.append, token=TOKEN, limiter=None, transport=Script([0.1])
    )
    async with client:
        outcomes = client.bridge_many(requests(9), concurrency=3)
        await anext(outcomes)
        await anyio.sleep(1)
    assert len(untaken) == 3
    await client.aclose()  # once more, as a lifespan around the `async with` does
    with pytest.raises(RuntimeError, match="1 of its outcomes were taken"):
        await anext(outcomes)
    assert await collect(outcomes) == []


# On trio it is a matter of chance whether the last outcomes go to the reader or to `on_abandoned`.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_whose_last_outcomes_came_as_it_was_closed_was_all() -> None:
    """All items were on the wire as the client closed, and all their outcomes are taken: that no
    worker was free to see the end of the input is no reason to call it cut off."""
    taken: list[Outcome] = []
    client = ServiceClient(token=TOKEN, limiter=None, transport=Script([1.0]))
    fan = client.bridge_many(requests(6), concurrency=3)

    async def read() -> None:
        async for outcome in fan:
            taken.append(outcome)  # noqa: PERF401 - each as it comes

    async with anyio.create_task_group() as group, client:
        group.start_soon(read)
        await anyio.sleep(1.5)
    assert len(taken) == 6
    assert fan.progress.is_complete


async def test_one_whose_input_had_not_ended_was_not_all() -> None:
    """Of an input that has to be waited for, nobody knows whether more was to come."""
    client = ServiceClient(token=TOKEN, limiter=None, transport=Script([0.1]))
    async with client:
        fan = client.bridge_many(trickling(requests(2), 1.0))
        await anext(fan)
    with pytest.raises(RuntimeError, match="1 of its outcomes were taken"):
        await anext(fan)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_whose_work_is_cancelled_from_outside_says_so() -> None:
    """Who cancels all tasks but the reader's gets an error behind the outcomes, and not a list
    that is too short."""
    client, _ = a_client(1000.0, max_connections=3)
    read: list[Outcome] = []

    async def read_all() -> None:
        async for outcome in client.bridge_many(requests(9)):
            read.append(outcome)  # noqa: PERF401 - it does not come to its end

    async with client:
        before = asyncio.all_tasks()
        reading = asyncio.ensure_future(read_all())
        await anyio.sleep(0.01)
        for task in asyncio.all_tasks() - before - {reading}:
            task.cancel()
        with pytest.raises(RuntimeError, match="the fan-out broke off"):
            await reading
    assert [type(outcome) for outcome in read] == [InDoubt] * 3


class BreaksWhenUnpacked:
    """An item that is none, and fails with what nobody expects."""

    def __iter__(self) -> Iterator[str]:
        raise KeyError("call_id")


class TestBrokenLimiter:
    async def test_before_anything_was_sent_the_items_are_refused(self) -> None:
        """Each has its outcome, with the limiter's own error."""
        client, script = a_client(limiter=Shared(at="acquire"))
        async with client:
            outcomes = await collect(client.bridge_many(requests(5)))
        assert [type(outcome) for outcome in outcomes] == [Refused] * 5
        assert all(isinstance(outcome.error, OSError) for outcome in outcomes)
        assert script.requests == []

    async def test_an_answer_that_is_there_is_not_lost_for_it(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What breaks in the limiter behind the first byte is logged, and costs no call."""
        client, _ = a_client(0.1, 0.5, limiter=Shared(at="postpone"), max_connections=1)
        async with client:
            outcomes = await collect(client.bridge_many(requests(2)))
        assert [type(outcome) for outcome in outcomes] == [Scheduled, Scheduled]
        assert "the limiter's postpone failed" in caplog.text


async def test_outcomes_of_two_fan_outs_do_not_mix() -> None:
    """One client carries several at a time."""
    script = Script([0.2])
    client, _ = a_client(transport=script)
    counts: dict[int, int] = {}

    async def read(size: int) -> None:
        counts[size] = len(await collect(client.bridge_many(requests(size))))

    async with client, anyio.create_task_group() as group:
        for size in (3, 50, 200):
            group.start_soon(read, size)
    assert counts == {3: 3, 50: 50, 200: 200}
