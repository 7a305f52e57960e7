"""Thousands of calls through storms of faults: nobody twice, nobody lost, no limit exceeded."""

from __future__ import annotations

import asyncio
import bisect
import gc
import random
import re
import time
import warnings
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
import sniffio
from attrs import define, field
from servers import Peer, RawServer, Received, created, documented

from innocalls_async import (
    AsyncBridgeClient,
    BridgeRequest,
    InDoubt,
    Outcome,
    Refused,
    RetryPolicy,
    Scheduled,
    TokenBucket,
)
from innocalls_async.events import AttemptStarted, Event
from innocalls_async.transport import fast_transport

pytestmark = pytest.mark.anyio

TOKEN = "storm-token"
QUICK = RetryPolicy(attempts=5, initial=0.01, maximum=0.05)


def request_of(index: int) -> BridgeRequest:
    return BridgeRequest("flow", f"2011{index:08}", "Ahmed", "201098765432", "Mona", 2)


def requests(count: int) -> Iterator[BridgeRequest]:
    return (request_of(index) for index in range(count))


def number_in(body: bytes) -> str:
    """The first callee's number, read off the multipart body."""
    found = re.search(rb'name="first_callee_number"\r\n\r\n(\d+)\r\n', body)
    assert found is not None
    return found[1].decode()


@define
class Books:
    """A service in process that keeps books of whom it will ring, by the form's own field. `fault`
    says what goes wrong with a request, and whether the call is booked all the same."""

    fault: Callable[[random.Random], tuple[str, bool] | None] = lambda _: None
    seconds: float = 0.0
    random: random.Random = field(factory=lambda: random.Random(7))
    booked: Counter[str] = field(factory=Counter)
    requests: int = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        await anyio.sleep(self.seconds)
        number, fault = number_in(request.content), self.fault(self.random)
        if fault is None or fault[1]:
            self.booked[number] += 1
        if fault is None:
            return httpx.Response(200, json=created(f"id-{number}"))
        return self.break_off(fault[0])

    def break_off(self, word: str) -> httpx.Response:
        if word == "lost":
            raise httpx.ReadError("the connection was reset")
        if word == "unsent":
            raise httpx.ConnectError("refused")
        if word == "garbage":
            return httpx.Response(200, text="<html>")
        headers = {"Retry-After": "0"} if word == "429" else {}
        return httpx.Response(int(word), json={"message": "no"}, headers=headers)

    def client(self, **options: Any) -> AsyncBridgeClient:
        options = {"limiter": None, "retry": QUICK, **options}
        return AsyncBridgeClient(TOKEN, transport=httpx.MockTransport(self), **options)

    def check(self, outcomes: list[Outcome]) -> None:
        """No outcome contradicts the books, and nobody is on them twice."""
        assert not [number for number, times in self.booked.items() if times > 1]
        for outcome in outcomes:
            times = self.booked[outcome.request.first_callee_number]
            if isinstance(outcome, Scheduled):
                assert times == 1
                assert outcome.call_id == f"id-{outcome.request.first_callee_number}"
            elif isinstance(outcome, Refused):
                assert times == 0


def documented_faults(dice: random.Random) -> tuple[str, bool] | None:
    # Fewer 429 than others, because everyone waits for each.
    words = ["429", "500", "500", "503", "503", "503"]
    return (dice.choice(words), False) if dice.random() < 0.1 else None


def mixed_faults(dice: random.Random) -> tuple[str, bool] | None:
    words = ["429", "500", "503", "502", "504", "408", "422", "404", "unsent"]
    booked_or_not = ["lost", "garbage", "502"]
    if dice.random() >= 0.08:
        return None
    word = dice.choice(words + booked_or_not)
    return word, word in booked_or_not and dice.random() < 0.5


async def test_a_storm_of_documented_faults() -> None:
    """5,000 creates with 10 % of 429, 500 and 503: all scheduled, each once, one outcome each."""
    books = Books(documented_faults)
    # With 5 attempts one run in twenty would have a call that failed five times.
    async with books.client(retry=RetryPolicy(attempts=9, initial=0.01, maximum=0.05)) as client:
        outcomes = [outcome async for outcome in client.bridge_many(requests(5000))]
    assert sorted(outcome.index for outcome in outcomes) == list(range(5000))
    assert Counter(type(outcome) for outcome in outcomes) == {Scheduled: 5000}
    books.check(outcomes)
    assert len(books.booked) == 5000


async def test_a_storm_of_mixed_faults() -> None:
    """5,000 creates with 8 % of faults of every kind, lost answers among them: nobody twice, and
    no outcome that the books contradict."""
    books = Books(mixed_faults)
    async with books.client() as client:
        outcomes = [outcome async for outcome in client.bridge_many(requests(5000))]
    assert sorted(outcome.index for outcome in outcomes) == list(range(5000))
    books.check(outcomes)
    kinds = Counter(type(outcome) for outcome in outcomes)
    assert kinds[Scheduled] > 4700
    assert kinds[InDoubt] > 50
    assert kinds[Refused] > 20


async def test_an_outage() -> None:
    """3,000 calls that all meet a 503 cost at most 20 % more attempts than calls."""
    books = Books(lambda _: ("503", False))
    async with books.client() as client:
        outcomes = [outcome async for outcome in client.bridge_many(requests(3000))]
    assert {type(outcome) for outcome in outcomes} == {Refused}
    assert 3000 <= books.requests <= 3600


async def test_an_outage_under_gather() -> None:
    """The budget holds for tasks of the caller's own as well."""
    books = Books(lambda _: ("503", False))
    async with books.client() as client, anyio.create_task_group() as group:

        async def one(index: int) -> None:
            try:
                await client.bridge(request_of(index))
            except Exception as error:
                assert "503" in str(error)  # noqa: PT017

        for index in range(1000):
            group.start_soon(one, index)
    assert 1000 <= books.requests <= 1200


async def test_ten_thousand_at_once() -> None:
    """10,000 creates awaited at once all complete, each once; on asyncio by its own `gather`."""
    books = Books()
    done: list[str] = []

    async def one(index: int) -> None:
        done.append((await client.bridge(request_of(index))).call_id)

    async with books.client() as client:
        if sniffio.current_async_library() == "asyncio":
            await asyncio.gather(*map(one, range(10_000)))
        else:
            async with anyio.create_task_group() as group:
                for index in range(10_000):
                    group.start_soon(one, index)
    assert sorted(done) == [f"id-2011{index:08}" for index in range(10_000)]
    assert set(books.booked.values()) == {1}


LANES = ["default-asyncio", "default-trio", "fast-asyncio"]
on_each_lane = pytest.mark.parametrize(
    ("anyio_backend", "make"),
    [("asyncio", lambda: None), ("trio", lambda: None), ("asyncio", fast_transport)],
    ids=LANES,
)


@on_each_lane
async def test_a_thousand_cancelled(make: Callable[[], Any]) -> None:
    """1,000 calls cancelled at random moments, then 1,000 that all succeed; never more connections
    than `max_connections`, and nobody on the books twice."""
    dice = random.Random(3)

    async def soon(peer: Peer, request: Received) -> None:
        await asyncio.sleep(0.002)
        await peer.reply(200, documented(request))

    with RawServer(soon) as server:
        async with AsyncBridgeClient(
            TOKEN, base_url=server.url, limiter=None, transport=make(), max_connections=20
        ) as client:

            async def cancelled(index: int) -> None:
                with anyio.move_on_after(dice.random() * 0.8):
                    await client.bridge(request_of(index))

            async with anyio.create_task_group() as group:
                for index in range(1000):
                    group.start_soon(cancelled, index)
            before = len(server.received)
            calls = [outcome async for outcome in client.bridge_many(requests(1000))]
            assert {type(outcome) for outcome in calls} == {Scheduled}
        assert before < 1000
        assert server.most_open <= 20
        assert len(server.received) <= before + 1000 + 20


@on_each_lane
@pytest.mark.parametrize(
    ("way", "after"), [("cancel", 0), ("break", 1), ("break", 80), ("cancel", 80)]
)
async def test_leaving_early(make: Callable[[], Any], way: str, after: int) -> None:
    """However the loop is left, nothing unsent is sent afterwards, and what was on the wire is
    accounted for by the outcomes taken and untaken."""

    async def soon(peer: Peer, request: Received) -> None:
        await asyncio.sleep(0.02)
        await peer.reply(200, documented(request))

    taken: list[Outcome] = []
    with RawServer(soon) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        async with AsyncBridgeClient(
            TOKEN, base_url=server.url, limiter=None, transport=make(), max_connections=30
        ) as client:
            stream = client.bridge_many(requests(5000))
            with anyio.CancelScope() as scope:
                if after == 0 and way == "cancel":
                    scope.cancel()
                async for outcome in stream:
                    taken.append(outcome)
                    if len(taken) >= after:
                        if way == "cancel":
                            scope.cancel()
                        else:
                            break
            with anyio.fail_after(10):
                await stream.aclose()
            sent = [dict(item.form)["first_callee_number"] for item in server.received]
            known = [outcome.request.first_callee_number for outcome in [*taken, *stream.untaken]]
            assert {type(outcome) for outcome in [*taken, *stream.untaken]} <= {Scheduled}
            assert sorted(sent) == sorted(known)
            await anyio.sleep(0.1)
            assert len(server.received) == len(sent)
            assert (await client.bridge(request_of(9999))).call_id == "id-201100009999"


@pytest.mark.asyncio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_bare_break_leaves_no_task() -> None:
    """A loop left by `break` alone, its iterator dropped: no task is left, and the rest unsent."""
    books = Books(seconds=0.005)
    async with books.client(max_connections=10) as client:
        before = len(asyncio.all_tasks())
        async for _ in client.bridge_many(requests(1000)):
            break
        gc.collect()
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) == before
        assert books.requests <= 20


async def test_leaving_while_it_connects() -> None:
    """A create that is still connecting when the loop is left was not sent, and is not sent."""
    connected = anyio.Event()

    class SlowToConnect(httpx.AsyncBaseTransport):
        sent = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            trace = request.extensions["trace"]
            await trace("connection.connect_tcp.started", {})
            if len(SlowToConnect.seen) > 0:
                connected.set()
                await anyio.sleep(0.2)
            await trace("http11.send_request_headers.started", {})
            SlowToConnect.seen.append(number_in(request.content))
            return httpx.Response(200, json=created())

        seen: list[str] = []  # noqa: RUF012 - of this test alone

    async with AsyncBridgeClient(TOKEN, transport=SlowToConnect(), limiter=None) as client:
        stream = client.bridge_many(requests(3), concurrency=2)
        outcomes = [await anext(stream)]
        await connected.wait()
        await stream.aclose()
        outcomes += stream.untaken
        await anyio.sleep(0.3)
        assert SlowToConnect.seen == ["201100000000"]
        assert [type(outcome) for outcome in outcomes] == [Scheduled]


async def test_a_slow_consumer() -> None:
    """While nobody takes outcomes, no more than `concurrency` items are read and sent ahead."""
    read = 0

    def counted() -> Iterator[BridgeRequest]:
        nonlocal read
        for request in requests(500):
            read += 1
            yield request

    books = Books()
    async with books.client() as client:
        taken = 0
        async for _ in client.bridge_many(counted(), concurrency=7):
            taken += 1
            if taken < 20:
                await anyio.sleep(0.005)
            assert read <= taken + 7
            assert books.requests <= taken + 7
    assert taken == read == 500


async def test_an_input_that_raises() -> None:
    """An exception of the input is raised after one outcome for each item read before it."""

    def broken() -> Iterator[BridgeRequest]:
        yield from requests(50)
        raise LookupError("row 51 of the file")

    outcomes = []
    async with Books(seconds=0.002).client() as client:
        stream = client.bridge_many(broken(), concurrency=10)
        for _ in range(50):
            outcomes.append(await anext(stream))  # noqa: PERF401
        with pytest.raises(LookupError, match="row 51"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert sorted(outcome.index for outcome in outcomes) == list(range(50))
    assert {type(outcome) for outcome in outcomes} == {Scheduled}


async def test_a_limiter_that_raises() -> None:
    """A caller's limiter that breaks costs the row it broke on, not the stream."""

    class Broken:
        calls = 0

        async def acquire(self) -> None:
            self.calls += 1
            if self.calls % 10 == 0:
                raise ConnectionError("the store of the shared limit is away")

    books = Books()
    async with books.client(limiter=Broken()) as client:
        outcomes = [outcome async for outcome in client.bridge_many(requests(100), concurrency=5)]
    assert sorted(outcome.index for outcome in outcomes) == list(range(100))
    assert Counter(type(outcome) for outcome in outcomes) == {Scheduled: 90, Refused: 10}
    books.check(outcomes)


async def test_a_slow_producer() -> None:
    """While an asynchronous input has nothing, the outcomes of what it gave already come."""

    async def slow() -> AsyncIterator[BridgeRequest]:
        for index in range(4):
            yield request_of(index)
            await anyio.sleep(0.15)

    began = anyio.current_time()
    async with Books().client() as client:
        waits = [
            anyio.current_time() - began - outcome.index * 0.15
            async for outcome in client.bridge_many(slow(), concurrency=10)
        ]
    assert len(waits) == 4
    assert max(waits) < 0.12


@define
class StrictLimit:
    """What a service with a hard limit does: a request too many in any window, by its own clock,
    is a 429. `marks` has when the others came."""

    rate: int
    per: float = 1.0
    refused: int = 0
    marks: list[float] = field(factory=list)

    def admits(self) -> bool:
        now = time.monotonic()
        if len(self.marks) >= self.rate and now - self.marks[-self.rate] < self.per:
            self.refused += 1
            return False
        self.marks.append(now)
        return True

    def most_in_a_window(self) -> int:
        return max(
            index + 1 - bisect.bisect_right(self.marks, mark - self.per)
            for index, mark in enumerate(self.marks)
        )


SECONDS = 3.0


async def run_at(rate: int, limit: StrictLimit, transport: Any, base_url: str | None) -> float:
    """Send as fast as the limiter allows for 3 s; the share of the rate that was used."""
    limiter = TokenBucket(rate)
    async with AsyncBridgeClient(
        TOKEN, base_url=base_url, transport=transport, limiter=limiter, retry=None
    ) as client:
        began = time.monotonic()

        def until_then() -> Iterator[BridgeRequest]:
            index = 0
            while time.monotonic() - began < SECONDS:
                yield request_of(index)
                index += 1

        stream = client.bridge_many(until_then())
        async for outcome in stream:
            assert isinstance(outcome, Scheduled), outcome
    first = limit.marks[0]
    # The first window starts with a full burst: 3 s hold the first and two windows more.
    return sum(mark - first < SECONDS for mark in limit.marks) / (rate * SECONDS)


def report(where: str, rate: int, limit: StrictLimit, share: float) -> bool:
    """Print the figures; whether enough of the rate was used. An excess is an error at once."""
    gaps = [b - a for a, b in zip(limit.marks, limit.marks[rate:], strict=False)]
    print(  # noqa: T201
        f"\n{where} {rate}/s: {share:.2%} used, {limit.refused} refused, at most "
        f"{limit.most_in_a_window()} in a window, least gap {1000 * min(gaps):.2f} ms"
    )
    assert limit.refused == 0
    assert limit.most_in_a_window() <= rate
    return share >= 0.985


# A machine that is busy with other things takes from the share used, and must not add an excess.
TRIES = 3


async def use_in_process(rate: int) -> bool:
    limit = StrictLimit(rate)
    reply = httpx.Response(200, json=created()).content

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if limit.admits() else 429, content=reply)

    share = await run_at(rate, limit, httpx.MockTransport(handle), None)
    return report("in process", rate, limit, share)


async def use_over_a_socket(rate: int) -> bool:
    limit = StrictLimit(rate)

    async def answer(peer: Peer, request: Received) -> None:
        await peer.reply(200 if limit.admits() else 429, created())

    with RawServer(answer) as server:
        share = await run_at(rate, limit, fast_transport(), server.url)
    return report("over a socket", rate, limit, share)


@pytest.mark.parametrize("rate", [100, 1000])
async def test_the_limit_in_process(rate: int) -> None:
    """No window over the limit by the service's own clock, and 98.5 % of the rate used."""
    for _ in range(TRIES):
        if await use_in_process(rate):
            return
    pytest.fail("too little of the rate was used")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("rate", [100, 1000])
async def test_the_limit_over_a_socket(rate: int) -> None:
    """The same over real sockets, with the fast transport."""
    for _ in range(TRIES):
        if await use_over_a_socket(rate):
            return
    pytest.fail("too little of the rate was used")


@pytest.mark.parametrize("anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.soak)])
async def test_told_four_times_the_limit() -> None:
    """Told 400 a second by a service that takes 100 and says `Retry-After: 1`, 800 of 800 calls
    end scheduled in under 2.5 x the ideal time."""
    limit = StrictLimit(100)
    booked: Counter[str] = Counter()

    async def handle(request: httpx.Request) -> httpx.Response:
        if not limit.admits():
            headers = {"Retry-After": "1"}
            return httpx.Response(429, json={"message": "Too Many Attempts."}, headers=headers)
        booked[number_in(request.content)] += 1
        return httpx.Response(200, json=created())

    began = time.monotonic()
    async with AsyncBridgeClient(
        TOKEN, transport=httpx.MockTransport(handle), limiter=TokenBucket(400)
    ) as client:
        outcomes = [outcome async for outcome in client.bridge_many(requests(800))]
    seconds = time.monotonic() - began
    assert Counter(type(outcome) for outcome in outcomes) == {Scheduled: 800}
    assert set(booked.values()) == {1}
    assert seconds < 2.5 * 8
    print(f"\n800 calls at 100/s, told 400/s: {seconds:.1f} s, {limit.refused} refused")  # noqa: T201


async def test_events_count_what_was_sent() -> None:
    """As many attempts are announced as the service sees requests."""
    started: deque[Event] = deque()
    books = Books(documented_faults)

    def keep(event: Event) -> None:
        if isinstance(event, AttemptStarted):
            started.append(event)

    async with books.client(on_event=keep) as client:
        async for _ in client.bridge_many(requests(300)):
            pass
    assert len(started) == books.requests
