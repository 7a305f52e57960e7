"""Who may send next: places, order, pauses and probes; on a time that jumps."""

from __future__ import annotations

import asyncio
import gc
import math
import random

import anyio
import pytest
from attrs import define, field
from clocks import virtual_backend as anyio_backend  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st

from innocalls_async import TokenBucket
from innocalls_async.admission import Admission
from innocalls_async.grants import LEARNING, LONGEST_QUEUE, SLACK

pytestmark = pytest.mark.anyio

SETTLE = 1e-6  # time enough, where time jumps, for everything that is due
CREATE, POLL = 0, 1


@define
class Door:
    """An admission, and who came through it."""

    admission: Admission
    came: list[tuple[int, int]] = field(factory=list)
    at: list[float] = field(factory=list)
    inside: int = 0
    most: int = 0

    async def visit(self, priority: int, number: int, seconds: float = 0.0) -> None:
        rank = (priority, number)
        grant = await self.admission.enter(rank)
        self.came.append(rank)
        self.at.append(grant.at)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await anyio.sleep(seconds)
        finally:
            self.inside -= 1
            self.admission.leave(rank, grant)


class Listening(TokenBucket):
    """Keeps how much later than granted each grant was said to count."""

    def __init__(self, rate: float) -> None:
        super().__init__(rate)
        self.late: list[float] = []

    def postpone(self, grant: float, used_ago: float) -> float:
        moment = super().postpone(grant, used_ago)
        self.late.append(moment - grant)
        return moment


def a_door(places: int = 10, limiter: TokenBucket | None = None) -> Door:
    return Door(Admission(places, limiter))


async def test_no_more_are_inside_than_there_are_places() -> None:
    """The eleventh of ten waits until one leaves."""
    door = a_door(places=10)
    async with anyio.create_task_group() as group:
        for number in range(95):
            group.start_soon(door.visit, CREATE, number, 1.0)
    assert door.most == 10
    assert len(door.came) == 95
    assert door.at[-1] - door.at[0] == pytest.approx(9.0)


async def test_they_come_in_by_priority_and_then_by_age() -> None:
    """Creates and edits go before polls, and the older operation before the younger."""
    door = a_door(places=1)
    async with anyio.create_task_group() as group:
        group.start_soon(door.visit, CREATE, 0, 1.0)
        await anyio.sleep(SETTLE)
        for rank in [(POLL, 1), (CREATE, 5), (POLL, 2), (CREATE, 3), (CREATE, 4)]:
            group.start_soon(door.visit, *rank, 1.0)
            await anyio.sleep(SETTLE)
    assert door.came == [(0, 0), (0, 3), (0, 4), (0, 5), (1, 1), (1, 2)]


async def test_a_limiters_grant_goes_to_the_first_in_line() -> None:
    """A poll that led the line while a create came gives way to it."""
    door = a_door(limiter=TokenBucket(1))
    async with anyio.create_task_group() as group:
        for rank in [(CREATE, 0), (POLL, 1), (POLL, 2), (CREATE, 3)]:
            group.start_soon(door.visit, *rank)
            await anyio.sleep(SETTLE)
    assert door.came == [(0, 0), (0, 3), (1, 1), (1, 2)]
    gaps = [later - earlier for earlier, later in zip(door.at, door.at[1:], strict=False)]
    assert gaps == pytest.approx([1.0] * 3)


async def test_nobody_passes_who_was_called() -> None:
    """One that comes before a place's next owner has come to run goes behind it."""
    door = a_door(places=2)
    grants = [await door.admission.enter((CREATE, number)) for number in range(2)]
    async with anyio.create_task_group() as group:
        group.start_soon(door.visit, CREATE, 2)
        await anyio.sleep(SETTLE)
        for number, grant in enumerate(grants):
            door.admission.leave((CREATE, number), grant)
        await door.visit(CREATE, 3)
    assert door.came == [(CREATE, 2), (CREATE, 3)]


async def test_no_grant_is_asked_for_without_a_place() -> None:
    """A grant is used at once: none is taken for somebody who still waits for a place."""
    door = a_door(places=1, limiter=TokenBucket(2, burst=2))
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(door.visit, CREATE, number, 5.0)
    assert [at - door.at[0] for at in door.at] == pytest.approx([0, 5, 10])


class TestPause:
    async def test_nobody_comes_in_then_one_probe_then_the_rest(self) -> None:
        """After a 429 all wait for its Retry-After, and for the one that goes ahead."""
        door = a_door()
        assert door.admission.pause_left == 0
        assert door.admission.limited((CREATE, 0), anyio.current_time(), 3.0) == 3.0
        began = anyio.current_time()
        assert door.admission.pause_left == pytest.approx(3.0)
        async with anyio.create_task_group() as group:
            for number in range(1, 6):
                group.start_soon(door.visit, CREATE, number, 1.0)
                await anyio.sleep(SETTLE)
        assert [at - began for at in door.at] == pytest.approx([3, 4, 4, 4, 4])
        assert door.came[0] == (CREATE, 1)
        assert door.admission.pause_left == 0

    @pytest.mark.parametrize(
        ("seconds", "pauses"),
        [
            (None, [1, 2, 4, 8]),
            (0.0, [0.05, 0.1, 0.2, 0.4]),
            (0.3, [0.3, 0.3, 0.3, 0.4]),
            (9.0, [9, 9, 9, 9]),
        ],
    )
    async def test_a_refused_probe_makes_the_next_pause_longer(
        self, seconds: float | None, pauses: list[float]
    ) -> None:
        """What the service does not say, or says too low, is doubled with each refusal."""
        admission, rank = Admission(1, None), (CREATE, 1)
        said = []
        for _ in pauses:
            grant = await admission.enter(rank)
            await anyio.sleep(0.01)
            said.append(admission.limited(rank, anyio.current_time(), seconds))
            admission.leave(rank, grant)
        assert said == pytest.approx(pauses)

    async def test_a_probe_that_went_well_ends_the_doubling(self) -> None:
        """The next 429 begins at the first pause again, and slows the limiter again."""
        limiter = TokenBucket(100)
        admission, rank = Admission(1, limiter), (CREATE, 1)
        for expected in (1.0, 2.0, 1.0):
            grant = await admission.enter(rank)
            await anyio.sleep(0.01)
            assert admission.limited(rank, grant.at, None) == expected
            admission.leave(rank, grant)
            if expected == 2.0:
                admission.leave(rank, await admission.enter(rank))  # the probe, answered
        assert limiter.current_rate == pytest.approx(100 * 0.7 * 0.7, rel=0.15)

    async def test_a_429_to_the_probe_of_a_used_up_quota_is_the_first(self) -> None:
        """It pauses for the first time and slows the limiter, whatever was refused long ago."""
        limiter = TokenBucket(100)
        admission, rank = Admission(1, limiter), (CREATE, 1)
        for _ in range(3):
            grant = await admission.enter(rank)
            await anyio.sleep(0.01)
            admission.limited(rank, grant.at, None)
            admission.leave(rank, grant)
        admission.leave(rank, await admission.enter(rank))  # the probe, answered
        await anyio.sleep(100)
        assert limiter.current_rate == 100
        grant = await admission.enter(rank)
        admission.hold(0.0)
        admission.leave(rank, grant)
        grant = await admission.enter(rank)
        await anyio.sleep(0.01)
        assert admission.limited(rank, grant.at, None) == 1.0
        admission.leave(rank, grant)
        assert limiter.current_rate == pytest.approx(70)

    async def test_a_volley_of_429_slows_down_once(self) -> None:
        """Attempts that were under way when the pause began prove nothing new."""
        limiter = TokenBucket(100)
        admission = Admission(10, limiter)
        began = anyio.current_time()
        await anyio.sleep(0.1)
        for number in range(10):
            admission.limited((CREATE, number), began, None)
        assert limiter.current_rate == pytest.approx(70)
        assert admission.pause_left == pytest.approx(1.0)

    async def test_the_longest_pause_is_kept(self) -> None:
        """A shorter pause does not end a longer one, and none exceeds what is allowed."""
        admission = Admission(1, None, longest_pause=20.0)
        began = anyio.current_time() + 1
        assert admission.limited((CREATE, 1), began, 500.0) == 20.0
        assert admission.limited((CREATE, 2), began, 5.0) == 5.0
        assert admission.pause_left == pytest.approx(20.0)

    async def test_a_limiter_without_slow_down_is_paused_all_the_same(self) -> None:
        """A shared limiter of the caller's need not know of refusals."""

        class Shared:
            async def acquire(self) -> None: ...

        admission = Admission(1, Shared())
        assert admission.limited((CREATE, 1), anyio.current_time(), 2.0) == 2.0
        grant = await admission.enter((CREATE, 2))
        await anyio.sleep(1)
        grant.sending()
        admission.leave((CREATE, 2), grant)
        assert admission.pause_left == 0

    async def test_a_grant_from_before_a_pause_is_void(self) -> None:
        """A leader that waited for its grant when the pause began waits for the pause, too."""
        door = a_door(limiter=TokenBucket(1))
        async with anyio.create_task_group() as group:
            group.start_soon(door.visit, CREATE, 1)
            await anyio.sleep(0.5)
            group.start_soon(door.visit, CREATE, 2)
            await anyio.sleep(SETTLE)
            door.admission.hold(10.0)
        assert door.at[1] - door.at[0] == pytest.approx(10.5, abs=0.01)

    async def test_a_probe_without_an_answer_lets_one_more_probe(self) -> None:
        """A lost or cancelled probe has shown nothing: not everyone goes after it."""
        door = a_door()
        admission, first, second = door.admission, (CREATE, 0), (CREATE, 1)
        grant = await admission.enter(first)
        admission.limited(first, anyio.current_time(), 1.0)
        admission.leave(first, grant)
        probe = await admission.enter(second)
        async with anyio.create_task_group() as group:
            for number in range(2, 7):
                group.start_soon(door.visit, CREATE, number, 1.0)
            await anyio.sleep(SETTLE)
            assert door.inside == 0
            admission.leave(second, probe, answered=False)
            await anyio.sleep(SETTLE)
            assert door.inside == 1
            await anyio.sleep(1.0)
            assert door.inside == 4

    async def test_a_cancelled_probe_lets_the_next_one_probe(self) -> None:
        """The pause is no dead end when the probe's task is gone."""
        door = a_door()
        door.admission.hold(1.0)
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(door.visit, CREATE, number, 2.0)
                await anyio.sleep(SETTLE)
            await anyio.sleep(1.5)
            assert door.came == [(CREATE, 0)]
            group.cancel_scope.cancel()
        await door.visit(CREATE, 9)
        assert door.came == [(CREATE, 0), (CREATE, 9)]


class TestLateUse:
    async def test_the_limiter_learns_when_a_grant_was_used(self) -> None:
        """A connection that took 0.4 s to make moves its grant by as much."""
        admission = Admission(1, TokenBucket(1))
        grant = await admission.enter((CREATE, 1))
        granted = grant.at
        grant.sending()
        assert grant.at == granted
        await anyio.sleep(0.4)
        grant.sending()
        assert grant.at == granted + 0.4
        admission.leave((CREATE, 1), grant)
        grant = await admission.enter((CREATE, 2))
        assert grant.at == pytest.approx(granted + 1.4)

    async def test_no_others_grant_is_moved(self) -> None:
        """Each attempt moves its own grant, in whatever order they end and begin to send."""
        admission = Admission(3, TokenBucket(3))
        grants = []
        for number in range(3):
            grants.append(await admission.enter((CREATE, number)))
            await anyio.sleep(0.1)
        for index, now in ((1, 0.3), (0, 0.5), (2, 0.6)):
            await anyio.sleep_until(grants[index].at + now - index * 0.1)
            grants[index].sending()
            admission.leave((CREATE, index), grants[index])
        first = grants[1].at
        again = [await admission.enter((CREATE, number)) for number in (3, 4, 5)]
        assert [grant.at - first for grant in again] == pytest.approx([1.0, 1.2, 1.3])

    async def test_a_slow_answer_counts_for_a_small_part_of_a_second(self) -> None:
        """An answer slower than the fastest ever may have queued before it was counted."""
        limiter = Listening(100)
        admission = Admission(1, limiter)
        for took in (0.1, 0.9, LEARNING, 0.12, 0.1, 9.0):
            grant = await admission.enter((CREATE, 1))
            await anyio.sleep(took)
            admission.leave((CREATE, 1), grant)
        # In the first second nobody knows what the fastest answer takes.
        first, later = [0.1, LONGEST_QUEUE], [LONGEST_QUEUE, 0.02 + SLACK, SLACK, LONGEST_QUEUE]
        assert limiter.late == pytest.approx([*first, *later])

    async def test_an_attempt_that_failed_counts_and_teaches_nothing(self) -> None:
        """It is held against the limit as late as any; only successes show how fast it can be."""
        limiter = Listening(100)
        admission = Admission(1, limiter)
        for took, answered in ((0.1, True), (LEARNING, True), (0.02, False), (0.12, True)):
            grant = await admission.enter((CREATE, 1))
            await anyio.sleep(took)
            admission.leave((CREATE, 1), grant, succeeded=answered)
        assert limiter.late == pytest.approx([0.1, LONGEST_QUEUE, 0.0, 0.02 + SLACK])

    async def test_each_kind_has_a_pace_of_its_own(self) -> None:
        """A delete that is answered sooner than any create does not make every create late."""
        limiter = Listening(100)
        admission = Admission(1, limiter)
        for kind, took in (("create", LEARNING), ("delete", 0.01), ("create", LEARNING)):
            grant = await admission.enter((CREATE, 1))
            await anyio.sleep(took)
            admission.leave((CREATE, 1), grant, kind)
        assert limiter.late == pytest.approx([LONGEST_QUEUE, 0.01, SLACK])


class Away:
    """A limiter of somebody's own whose server is away, for whatever is named."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts
        self.asked: list[object] = []

    async def acquire(self) -> None: ...

    @property
    def last_grant(self) -> str:
        if "last_grant" in self.parts:
            raise OSError("away")
        return "grant-1"

    def postpone(self, grant: object, used_ago: float) -> None:
        self.asked.append(grant)
        if "postpone" in self.parts:
            raise OSError("away")


async def test_a_limiter_whose_parts_fail_costs_no_place() -> None:
    """An error of `last_grant`, as somebody is admitted or let in by another, is only logged."""
    door = Door(Admission(1, Away("last_grant")))
    async with anyio.create_task_group() as group:
        for rank in [(CREATE, 0), (POLL, 1), (CREATE, 2), (CREATE, 3)]:
            group.start_soon(door.visit, *rank, 1.0)
            await anyio.sleep(SETTLE)
    assert door.came == [(0, 0), (0, 2), (0, 3), (1, 1)]


@pytest.mark.parametrize("parts", [(), ("postpone",)])
async def test_a_grant_keeps_its_name(parts: tuple[str, ...]) -> None:
    """A `postpone` that returns no other name, or fails, is called with the same one again."""
    admission = Admission(1, limiter := Away(*parts))
    grant = await admission.enter((CREATE, 1))
    await anyio.sleep(0.5)
    grant.sending()
    admission.leave((CREATE, 1), grant)
    assert limiter.asked == ["grant-1", "grant-1"]


async def test_who_is_cancelled_already_spends_nothing() -> None:
    """A crowd that comes when it is told to go leaves the places and the grants to others."""
    admission = Admission(3, TokenBucket(2, per=20))
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(admission.enter, (CREATE, number))
    began = anyio.current_time()
    for number in range(2):
        await admission.enter((CREATE, number))
    assert anyio.current_time() == began


async def test_a_crowd_that_is_cancelled_spends_nothing_of_the_limit() -> None:
    """As all of it ends at once, each that ends calls the next, which comes no more."""
    limiter = TokenBucket(12, per=20)
    door = a_door(places=3, limiter=limiter)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(door.visit, CREATE, number, 1.0)
            await anyio.sleep(0.5)
            scope.cancel()
    assert len(door.came) == 3
    await anyio.sleep(5)
    assert [limiter.try_acquire() for _ in range(10)] == [True] * 9 + [False]


@pytest.mark.parametrize("what", ["a place", "a pause", "the limiter"])
async def test_who_is_in_line_hears_at_once_that_it_is_closed(what: str) -> None:
    """Whatever they wait for, and none of them spends a grant."""
    limiter = TokenBucket(1 if what == "the limiter" else 100, per=3600)
    admission = Admission(1, limiter)
    grant = await admission.enter((CREATE, 0))
    if what != "a place":
        admission.leave((CREATE, 0), grant)
    if what == "a pause":
        admission.hold(120)
    began, heard = anyio.current_time(), []

    async def come(number: int) -> None:
        with pytest.raises(RuntimeError, match="is closed"):
            await admission.enter((CREATE, number))
        heard.append(anyio.current_time() - began)

    async with anyio.create_task_group() as group:
        for number in range(1, 5):
            group.start_soon(come, number)
        await anyio.sleep(1)
        admission.close()
    assert heard == pytest.approx([1.0] * 4)
    if what != "the limiter":
        assert [limiter.try_acquire() for _ in range(100)] == [True] * 99 + [False]


async def test_who_left_the_line_is_forgotten() -> None:
    """Polls that gave up do not pile up behind creates that always come first."""

    def in_line() -> int:
        return sum(type(thing).__name__ == "_Waiter" for thing in gc.get_objects())

    admission = Admission(1, None)
    await admission.enter((CREATE, 0))
    async with anyio.create_task_group() as group:
        group.start_soon(admission.enter, (CREATE, 1))
        await anyio.sleep(SETTLE)
        before = in_line()
        for first in range(2, 1000, 50):
            with anyio.move_on_after(1):
                async with anyio.create_task_group() as polls:
                    for number in range(first, first + 50):
                        polls.start_soon(admission.enter, (POLL, number))
        assert in_line() < before + 100
        group.cancel_scope.cancel()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.booleans(), st.integers(0, 2**32))
async def test_cancellation_at_any_point_loses_nothing(
    places: int, is_limited: bool, seed: int
) -> None:
    """Through arrivals, departures, pauses and cancellations at random, the places hold, and
    afterwards all of them are there."""
    chance = random.Random(seed)
    limiter = TokenBucket(20, burst=chance.randrange(1, 5)) if is_limited else None
    door = a_door(places, limiter)
    scopes: list[anyio.CancelScope] = []
    finished: set[int] = set()
    cancelled: set[int] = set()

    async def come(number: int) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await door.visit(chance.randrange(2), number, chance.choice((0.0, 0.01, 0.5)))
            finished.add(number)
        if scope.cancelled_caught:
            cancelled.add(number)

    async with anyio.create_task_group() as group:
        for number in range(80):
            group.start_soon(come, number)
            await anyio.sleep(chance.choice((0.0, SETTLE, 0.02, 0.2)))
            if chance.random() < 0.3 and scopes:
                chance.choice(scopes).cancel()
            if chance.random() < 0.05:
                door.admission.limited((CREATE, number), anyio.current_time(), chance.random())

    assert finished | cancelled == set(range(80))
    assert door.most <= places
    with anyio.fail_after(1000):
        door.most = 0
        async with anyio.create_task_group() as group:
            for number in range(100, 100 + 4 * places):
                group.start_soon(door.visit, CREATE, number, 1000.0 / 20)
    assert door.most == places


def test_a_task_cancelled_as_it_is_called_lets_the_next_one_go() -> None:
    """asyncio's own `cancel` reaches a task that was woken already."""

    async def scenario() -> None:
        admission = Admission(1, None)
        grant = await admission.enter((CREATE, 1))
        leader = asyncio.create_task(admission.enter((POLL, 2)))
        await asyncio.sleep(0)
        preferred = asyncio.create_task(admission.enter((CREATE, 3)))
        await asyncio.sleep(0)
        admission.leave((CREATE, 1), grant)
        preferred.cancel()
        await asyncio.wait_for(leader, 1)
        assert preferred.cancelled()

    asyncio.run(scenario())


def test_a_task_cancelled_as_it_is_given_a_grant_gives_its_place_back() -> None:
    """The leader has let it in, and it has not come to run."""

    class Gate:
        def __init__(self) -> None:
            self.opened = asyncio.Event()

        async def acquire(self) -> None:
            await self.opened.wait()

    async def scenario() -> None:
        admission = Admission(1, gate := Gate())
        leader = asyncio.create_task(admission.enter((POLL, 2)))
        await asyncio.sleep(0)
        preferred = asyncio.create_task(admission.enter((CREATE, 3)))
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.sleep(0)
        preferred.cancel()
        await asyncio.wait_for(leader, 1)
        assert preferred.cancelled()

    asyncio.run(scenario())


async def test_a_limiter_that_fails_takes_no_place() -> None:
    """Its error reaches the one who leads; the next in line leads on."""

    class Failing:
        failures = 2

        async def acquire(self) -> None:
            await anyio.sleep(1)
            if self.failures:
                self.failures -= 1
                raise OSError("the shared limiter is away")

    admission, came, failed = Admission(1, Failing()), [], []

    async def come(number: int) -> None:
        try:
            grant = await admission.enter((CREATE, number))
        except OSError:
            failed.append(number)
        else:
            came.append(number)
            admission.leave((CREATE, number), grant)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(come, number)
            await anyio.sleep(SETTLE)
    assert (failed, came) == ([0, 1], [2, 3])
    assert math.isclose(admission.pause_left, 0)
