"""The limit holds in every window, whatever comes when; on a clock that only the test moves."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, cycle, pairwise
from typing import Any

import anyio
import pytest
from clocks import FakeClock
from clocks import virtual_backend as anyio_backend  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import a_client, a_request

from innocalls_async import RateLimiter, TokenBucket

pytestmark = pytest.mark.anyio
SETTLE = 1e-6  # time enough, where time jumps, for everything that is due

SEEDS = st.integers(0, 2**32)
RATES = st.sampled_from([1, 2, 7, 50, 100, 997]) | st.floats(0.05, 500)
PERIODS = st.sampled_from([1, 1.0, 0.1, 60]) | st.floats(0.01, 100)


def assert_limit(grants: list[float], bucket: TokenBucket) -> None:
    """No window of `per` has more than `rate` grants, and no stretch of time more than the burst
    and what it earned."""
    rate, per = bucket.rate, bucket.per
    count, window = (int(rate), per) if rate >= 1 else (1, per / rate)
    assert all(b - a >= window for a, b in zip(grants, grants[count:], strict=False))
    debts = [index - moment * rate / per for index, moment in enumerate(grants)]
    surplus = (debt - least for debt, least in zip(debts, accumulate(debts, min), strict=True))
    assert max(surplus) + 1 <= bucket.burst + 1e-3


@contextmanager
def untraced() -> Iterator[None]:
    """A million grants are a minute under a coverage tracer, and show it nothing that the other
    tests do not."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


# 36 examples on each of two loops, of 14,000 grants: a million in all.
@settings(deadline=None, max_examples=36)
@given(RATES, PERIODS, st.none() | st.integers(1, 200), SEEDS)
async def test_no_window_ever_exceeds_the_rate(
    rate: float, per: float, burst: int | None, seed: int
) -> None:
    """Over random arrivals, rates and bursts, late and early timers, there is no excess."""
    chance, clock = random.Random(seed), FakeClock()
    pace = per / rate * chance.choice((0.0, 0.1, 0.9, 1.1))
    gaps = cycle([pace * chance.expovariate(1) * chance.randrange(2) for _ in range(997)] + [per])
    punctual = cycle([chance.choice((1, 1, 1, 0.5, 1.5)) for _ in range(101)])

    async def sleep(seconds: float) -> None:
        clock.now += seconds * next(punctual)

    bucket = TokenBucket(rate, per, burst, clock=clock, sleep=sleep)
    grants = []
    with untraced():
        for _ in range(14_000):
            clock.now += next(gaps)
            await bucket.acquire()
            grants.append(clock.now)
        assert_limit(grants, bucket)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.none() | st.integers(1, 40), SEEDS)
async def test_a_crowd_is_served_in_order_and_cancelled_waiters_spend_nothing(
    rate: int, burst: int | None, seed: int
) -> None:
    """Whoever comes first is granted first; those who give up leave no trace in the limit."""
    chance = random.Random(seed)
    bucket = TokenBucket(rate, 1.0, burst)
    granted: list[tuple[int, float]] = []
    scopes: dict[int, anyio.CancelScope] = {}

    async def come(number: int) -> None:
        with anyio.CancelScope() as scopes[number]:
            await bucket.acquire()
            granted.append((number, anyio.current_time()))
        scopes.pop(number, None)

    async with anyio.create_task_group() as group:
        for number in range(120):
            group.start_soon(come, number)
            await anyio.sleep(chance.choice((SETTLE, SETTLE, 0.01, 0.3)))
            if chance.random() < 0.1:
                for waiter in chance.sample(sorted(scopes), len(scopes) // 2):
                    scopes.pop(waiter).cancel()

    order = [number for number, _ in granted]
    assert order == sorted(order)
    assert_limit([moment for _, moment in granted], bucket)


async def test_cancelled_waiters_cost_those_behind_them_nothing() -> None:
    """With everyone before it gone, the last waiter is granted as if they had never come."""
    bucket = TokenBucket(1)
    began = anyio.current_time()
    await bucket.acquire()
    async with anyio.create_task_group() as leaving:
        for _ in range(50):
            leaving.start_soon(bucket.acquire)
        await anyio.sleep(0.5)
        leaving.cancel_scope.cancel()
    await bucket.acquire()
    assert anyio.current_time() - began == pytest.approx(1.0)


@pytest.mark.parametrize("burst", [None, 1, 3, 10])
async def test_a_burst_goes_back_to_back_and_the_rest_at_the_rate(burst: int | None) -> None:
    """A full bucket gives its burst at once, then one each tenth of a second."""
    clock = FakeClock()
    bucket = TokenBucket(10, burst=burst, clock=clock, sleep=clock.skip)
    grants = []
    for _ in range(40):
        await bucket.acquire()
        grants.append(clock.now)
    size = burst or 10
    assert grants.count(0.0) == size
    # A full burst leaves nothing for the rest of its window; a small one is paced from the start.
    assert grants[-1] == pytest.approx((40 - size) / 10, abs=0.11)
    assert_limit(grants, bucket)


async def test_the_rate_is_used_up_while_there_are_waiters() -> None:
    """The exact window costs nothing: in ten seconds ten times the rate are granted."""
    clock = FakeClock()
    bucket = TokenBucket(100, burst=1, clock=clock, sleep=clock.skip)
    count = 0
    while clock.now < 10:
        await bucket.acquire()
        count += 1
    assert count == pytest.approx(1000, abs=2)


class TestSlowDown:
    async def test_it_goes_on_at_seven_tenths_and_recovers(self) -> None:
        """A refused rate is cut to 0.7 and comes back by a fiftieth a second, no further."""
        clock = FakeClock()
        bucket = TokenBucket(100, clock=clock, sleep=clock.skip)
        assert bucket.current_rate == 100
        bucket.slow_down()
        assert bucket.current_rate == pytest.approx(70)
        clock.now = 5.0
        assert bucket.current_rate == pytest.approx(80)
        clock.now = 16.0
        assert bucket.current_rate == 100
        clock.now = 1000.0
        assert bucket.current_rate == 100

    async def test_grants_keep_to_the_slower_rate(self) -> None:
        """The window counts the rate of the moment, and no burst is left over."""
        clock = FakeClock()
        bucket = TokenBucket(100, clock=clock, sleep=clock.skip)
        await bucket.acquire()
        grants = [clock.now]
        clock.now = 0.5
        bucket.slow_down()
        while clock.now < 1.5:
            await bucket.acquire()
            grants.append(clock.now)
        assert 69 <= len(grants) <= 73
        assert grants.count(0.5) == 1
        while clock.now < 60.0:
            await bucket.acquire()
            grants.append(clock.now)
        assert_limit(grants, bucket)
        assert sum(moment >= 30 for moment in grants) == pytest.approx(3000, abs=5)

    async def test_again_and_again_it_never_stops(self) -> None:
        """A hundred refusals leave a hundredth of the rate."""
        clock = FakeClock()
        bucket = TokenBucket(50, clock=clock, sleep=clock.skip)
        for _ in range(100):
            bucket.slow_down()
        assert bucket.current_rate == pytest.approx(0.5)
        await bucket.acquire()
        await bucket.acquire()
        assert clock.now == pytest.approx(1.95, abs=0.1)


class TestPostpone:
    async def test_a_clock_of_its_own_does_no_harm_in_a_client(self) -> None:
        """What the client tells it are ages, so its moments may count from anywhere."""
        bucket = TokenBucket(2, clock=lambda: anyio.current_time() + 1e6)
        client, script = a_client(0.01, limiter=bucket)
        began = anyio.current_time()
        async with client:
            for _ in range(6):
                await client.bridge(a_request())
        assert len(script.requests) == 6
        assert 2.0 - 1e-6 <= anyio.current_time() - began < 2.5

    async def test_a_grant_counts_from_when_it_was_used(self) -> None:
        """A request that left late makes the next window later by as much."""
        clock = FakeClock()
        bucket = TokenBucket(2, burst=2, clock=clock, sleep=clock.skip)
        await bucket.acquire()
        first = bucket.last_grant
        await bucket.acquire()
        clock.now = 0.6
        assert bucket.postpone(first, 0.2) == pytest.approx(0.4)
        bucket.postpone(bucket.last_grant, 0.0)
        await bucket.acquire()
        assert clock.now >= 1.4
        await bucket.acquire()
        assert clock.now >= 1.6

    async def test_a_grant_used_after_newer_ones_counts_too(self) -> None:
        """One a second, and a request whose connection took longer than that to make."""
        clock = FakeClock()
        bucket = TokenBucket(1, clock=clock, sleep=clock.skip)
        await bucket.acquire()
        slow = bucket.last_grant
        for _ in range(2):
            await bucket.acquire()
        clock.now = 2.9
        slow = bucket.postpone(slow, 0.0)
        clock.now = 3.0
        bucket.postpone(slow, 0.0)
        await bucket.acquire()
        assert clock.now == 4.0

    @settings(deadline=None, max_examples=60)
    @given(st.integers(1, 60), SEEDS)
    async def test_uses_keep_the_limit_where_grants_did_not_turn_into_uses_at_once(
        self, rate: int, seed: int
    ) -> None:
        """Many at a time, used late and told out of order: no grant comes before `per` after the
        use that is `rate` places before it."""
        chance, clock = random.Random(seed), FakeClock()
        bucket = TokenBucket(rate, clock=clock, sleep=clock.skip)
        under_way: list[float] = []
        used: list[float] = []
        for _ in range(400):
            await bucket.acquire()
            uses = sorted(used + under_way)
            assert len(uses) < rate or clock.now - uses[-rate] >= 1.0
            under_way.append(bucket.last_grant)
            while under_way and chance.random() < 0.5:
                clock.now += chance.choice((0.0, chance.random() / rate))
                late = under_way.pop(chance.randrange(len(under_way)))
                used.append(bucket.postpone(late, 0.0))
                assert used[-1] == clock.now


async def test_a_grant_at_once_or_none() -> None:
    """`try_acquire` never waits, spends nothing for a no, and passes nobody who waits."""
    bucket = TokenBucket(2, per=20)
    assert [bucket.try_acquire() for _ in range(3)] == [True, True, False]
    async with anyio.create_task_group() as group:
        group.start_soon(bucket.acquire)
        await anyio.sleep(19.999)
        group.start_soon(bucket.acquire)
        await anyio.sleep(0.0005)
        assert not bucket.try_acquire()
        await anyio.sleep(20)
    assert [bucket.try_acquire() for _ in range(2)] == [False, False]
    await anyio.sleep(20)
    assert bucket.try_acquire()


async def test_on_its_own_clock_it_waits() -> None:
    """Without a clock given it is the event loop's."""
    bucket = TokenBucket(1, per=20)
    moments = []
    for _ in range(3):
        await bucket.acquire()
        moments.append(anyio.current_time())
    assert [later - earlier for earlier, later in pairwise(moments)] == pytest.approx([20, 20])


async def test_it_is_a_rate_limiter() -> None:
    """The protocol is the one method, and the repr says what it was made with."""
    bucket = TokenBucket(2.5, per=60, burst=1)
    assert isinstance(bucket, RateLimiter)
    assert repr(bucket) == "TokenBucket(rate=2.5, per=60, burst=1)"


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", None, True])
@pytest.mark.parametrize("name", ["rate", "per"])
def test_rate_and_per_are_finite_and_above_0(name: str, value: Any) -> None:
    """Anything else is refused by name."""
    with pytest.raises((ValueError, TypeError), match=f"^{name}: "):
        TokenBucket(**{"rate": 5, name: value})


@pytest.mark.parametrize("burst", [0, -1, 1.5, "2"])
def test_a_burst_is_a_count(burst: Any) -> None:
    """Anything but a whole number of at least 1 is refused by name."""
    with pytest.raises(ValueError, match=r"^burst: "):
        TokenBucket(5, burst=burst)
