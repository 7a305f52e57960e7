"""What is sent again, by a table written out once more; how often, and with what pauses."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest
from clocks import virtual_backend as anyio_backend  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st

from innocalls_async import (
    GoneError,
    InnoCallsError,
    NotFoundError,
    ResponseError,
    RetryPolicy,
    ServerError,
)
from innocalls_async.replies import Reply
from innocalls_async.retry import (
    Ending,
    Evidence,
    RetryBudget,
    Verdict,
    evidence_of,
    verdict,
)

# The design's table, by the name of each piece of evidence. The last three columns say what
# `creates=` makes of the first one; "gone" has a row of its own below.
TABLE = """
evidence     | create   | edit     | delete   | status     || never_twice | always
success      | done     | done     | done     | done       || done        | done
not_sent     | retry    | retry    | retry    | retry      || retry       | retry
limited      | retry    | retry    | retry    | retry      || retry       | retry
failed       | retry    | retry    | retry    | retry      || in_doubt    | retry
unavailable  | retry    | retry    | retry    | retry      || in_doubt    | retry
gateway      | in_doubt | retry    | retry    | retry      || in_doubt    | retry
lost         | in_doubt | retry    | retry    | retry      || in_doubt    | retry
unreadable   | in_doubt | error    | done     | retry_once || in_doubt    | retry_once
gone         | error    | error    | sent?    | error      || error       | error
refused      | error    | error    | error    | error      || error       | error
"""
WORDS = {word.name.lower(): word for word in Verdict} | {"sent?": Verdict.DONE_IF_SENT_BEFORE}


def rows() -> dict[str, list[Verdict]]:
    lines = [line.replace("||", "|").split("|") for line in TABLE.strip().splitlines()[1:]]
    return {line[0].strip(): [WORDS[cell.strip()] for cell in line[1:]] for line in lines}


def test_the_table_has_a_row_for_each_evidence() -> None:
    """No ending of an attempt is without a verdict."""
    assert set(rows()) == {evidence.name.lower() for evidence in Evidence}


@pytest.mark.parametrize("evidence", Evidence)
def test_every_verdict_is_the_designs(evidence: Evidence) -> None:
    """For each evidence, operation and `creates`, what follows is what the design says."""
    create, edit, delete, status, never_twice, always = rows()[evidence.name.lower()]
    ending = Ending(evidence)
    for creates in ("documented", "never_twice", "always"):
        assert verdict("edit", ending, creates) is edit
        assert verdict("delete", ending, creates) is delete
        assert verdict("status", ending, creates) is status
        assert verdict("authorize", ending, creates) is status
    assert verdict("create", ending, "documented") is create
    assert verdict("create", ending, "never_twice") is never_twice
    assert verdict("create", ending, "always") is always


def test_never_twice_sends_again_after_a_503_by_the_document() -> None:
    """A Retry-After with the API's own JSON shows that the controller did not run."""
    ending = Ending(Evidence.UNAVAILABLE, is_by_the_document=True)
    assert verdict("create", ending, "never_twice") is Verdict.RETRY
    failed = Ending(Evidence.FAILED, is_by_the_document=True)
    assert verdict("create", failed, "never_twice") is Verdict.IN_DOUBT


@pytest.mark.parametrize(
    ("status", "error", "evidence"),
    [
        (200, None, Evidence.SUCCESS),
        (200, ResponseError("no call_id"), Evidence.UNREADABLE),
        (200, ServerError("success: false"), Evidence.REFUSED),
        (200, NotFoundError("success: false"), Evidence.GONE),
        (200, GoneError("success: false"), Evidence.GONE),
        (429, InnoCallsError(), Evidence.LIMITED),
        (500, InnoCallsError(), Evidence.FAILED),
        (503, InnoCallsError(), Evidence.UNAVAILABLE),
        *(
            (status, InnoCallsError(), Evidence.GATEWAY)
            for status in (101, 199, 408, 501, 502, 504, 520, 599)
        ),
        *((status, InnoCallsError(), Evidence.GONE) for status in (404, 410)),
        *(
            (status, InnoCallsError(), Evidence.REFUSED)
            for status in (301, 302, 304, 400, 401, 403, 405, 406, 409, 418, 422, 425)
        ),
    ],
)
def test_evidence_of_a_whole_reply(
    status: int, error: InnoCallsError | None, evidence: Evidence
) -> None:
    """The status tells, and within a 2xx what reading it gave."""
    assert evidence_of(Reply(status, {}, b""), error) is evidence


@pytest.mark.parametrize("evidence", Evidence)
def test_what_is_doubtful(evidence: Evidence) -> None:
    """Nobody can tell what came of it; of a 500 or 503 the document says to try again."""
    assert Ending(evidence).is_doubtful is (evidence.name in {"GATEWAY", "LOST", "UNREADABLE"})


class TestRetryPolicy:
    def test_defaults_are_the_designs(self) -> None:
        """Five attempts, half a second, twenty at most, two minutes for a Retry-After."""
        assert RetryPolicy() == RetryPolicy(5, 0.5, 20.0, 120.0, "documented")

    @pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", None])
    def test_attempts_are_a_count(self, value: Any) -> None:
        """Anything but a whole number of at least 1 is refused by name."""
        with pytest.raises((ValueError, TypeError), match=r"^attempts: "):
            RetryPolicy(attempts=value)

    @pytest.mark.parametrize("name", ["initial", "maximum", "max_retry_after"])
    @pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True])
    def test_pauses_are_finite_seconds(self, name: str, value: Any) -> None:
        """A pause that could not be waited for is refused by name."""
        with pytest.raises((ValueError, TypeError), match=f"^{name}: "):
            RetryPolicy(**{name: value})

    def test_creates_is_one_of_three_words(self) -> None:
        """The error names them."""
        with pytest.raises(ValueError, match=r"^creates: 'documented', 'never_twice' or 'always'"):
            RetryPolicy(creates="never")  # type: ignore[arg-type]


def endings() -> st.SearchStrategy[Ending]:
    waits = st.none() | st.floats(0, 300)
    return st.builds(
        lambda evidence, wait: Ending(evidence, retry_after=wait), st.sampled_from(Evidence), waits
    )


@pytest.mark.anyio
@settings(deadline=None, max_examples=60)
@given(
    st.builds(
        RetryPolicy,
        attempts=st.integers(1, 8),
        initial=st.floats(0, 5),
        maximum=st.floats(0, 30),
    ),
    st.lists(endings(), min_size=8, max_size=8),
    st.integers(0, 8),
)
async def test_attempts_and_pauses_keep_their_bounds(
    policy: RetryPolicy, script: list[Ending], patience: int
) -> None:
    """Never more exchanges than `attempts`, no jitter above its bounds, a Retry-After kept to,
    and nothing after giving up."""
    made: list[float] = []
    pauses: list[float] = []

    async def attempt() -> Ending:
        made.append(anyio.current_time())
        return script[len(made) - 1]

    last: Ending = await policy.retrying(
        is_retried=lambda ending: ending.evidence is not Evidence.REFUSED,
        gives_up=lambda ending, pause: len(made) > patience,
        announce=lambda ending, pause: pauses.append(pause),
    )(attempt)

    assert last is script[len(made) - 1]
    evidence = [ending.evidence for ending in [*script, Ending(Evidence.REFUSED)]]
    refused = evidence.index(Evidence.REFUSED) + 1
    assert len(made) == min(policy.attempts, refused, patience + 1)
    assert len(pauses) == len(made) - 1
    slept = [later - earlier for earlier, later in pairwise(made)]
    assert slept == pytest.approx(pauses, abs=1e-9)
    for number, (pause, ending) in enumerate(zip(pauses, script, strict=False)):
        if ending.evidence is Evidence.LIMITED:
            assert pause == 0  # the shared pause is waited for by everyone together
        else:
            asked = ending.retry_after or 0.0
            assert asked <= pause
            assert pause <= max(asked, min(policy.maximum, policy.initial * 2**number))


class TestRetryBudget:
    def test_it_pays_for_a_hundred_retries(self) -> None:
        """500 tokens at 5 each, whoever spends them."""
        budget = RetryBudget()
        assert [budget.spend() for _ in range(101)] == [True] * 100 + [False]

    def test_five_successes_earn_a_retry(self) -> None:
        """A success gives one token back, and no more than 500 are kept."""
        budget = RetryBudget()
        while budget.spend():
            pass
        for _ in range(4):
            budget.earn()
        assert not budget.spend()
        budget.earn()
        assert budget.spend()
        for _ in range(1000):
            budget.earn()
        assert sum(budget.spend() for _ in range(200)) == 100

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.booleans(), max_size=600))
    def test_retries_never_exceed_what_was_earned(self, steps: list[bool]) -> None:
        """However successes and retries follow each other, the account is never overdrawn."""
        budget, spent, earned = RetryBudget(), 0, 0
        for is_retry in steps:
            if is_retry:
                spent += budget.spend()
            else:
                budget.earn()
                earned += 1
            assert spent <= 100 + earned // 5
