"""The life of a call, as a function of time: nothing runs while nobody asks.

A call is pending until its start. Then the first callee's phone rings; when that leg is
answered the second one's rings, and when both are the call is in progress for its duration.
A leg that is not answered may be tried again, minutes later, before the call has failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence

import attrs

from innocalls_async.phone import parse_number

RING_SECONDS = 10.0
REDIAL_SECONDS = 60.0
ANSWERED = "answered"
NOT_SENT = "not_sent"

Rule = str | Sequence[str]
"""What a number does when it rings: one leg state, or one for each try."""


@attrs.frozen
class Progress:
    """The three states that a status reply shows."""

    call: str
    first_leg: str
    second_leg: str


@attrs.frozen
class Leg:
    """One callee's tries, the last of which settles the leg."""

    tries: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """From the first ring until the leg is settled."""
        return len(self.tries) * (RING_SECONDS + REDIAL_SECONDS) - REDIAL_SECONDS

    @property
    def is_answered(self) -> bool:
        """Whether the callee is on the line once it is settled."""
        return _is_answer(self.tries[-1])

    def state(self, elapsed: float) -> str:
        """The leg's state `elapsed` seconds after its first ring."""
        if elapsed < 0:
            return NOT_SENT
        # The document has no word for a leg that rings: it shows what came of the try before.
        index, since_ring = divmod(elapsed, RING_SECONDS + REDIAL_SECONDS)
        tried = int(index) + (since_ring >= RING_SECONDS)
        return self.tries[min(tried, len(self.tries)) - 1] if tried else NOT_SENT


class Rules(MutableMapping[str, Rule]):
    """What each number does, by its digits; numbers are given as people write them."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._by_digits: dict[str, Rule] = {}
        self.update(rules)

    def __setitem__(self, number: str, rule: Rule) -> None:
        self._by_digits[parse_number(number, "rules")] = _check_rule(rule)

    def __getitem__(self, number: str) -> Rule:
        return self._by_digits[_digits(number)]

    def __delitem__(self, number: str) -> None:
        del self._by_digits[_digits(number)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_digits)

    def __len__(self) -> int:
        return len(self._by_digits)


def _digits(number: str) -> str:
    try:
        return parse_number(number, "rules")
    except ValueError:
        raise KeyError(number) from None


def _check_rule(rule: Rule) -> Rule:
    if not isinstance(rule, Sequence):
        raise TypeError(f"rules: a leg state or several are needed, not {type(rule).__name__}")
    tries = (rule,) if isinstance(rule, str) else tuple(rule)
    if not tries:
        raise ValueError("rules: a number needs one leg state at least, such as 'answered'")
    for state in tries:
        if not isinstance(state, str):
            raise TypeError(f"rules: a leg state is a str, not {type(state).__name__}")
        if not state.strip():
            raise ValueError("rules: a leg state must not be empty; 'not_answered' is one")
    return rule if isinstance(rule, str) else tries


def read_rule(rule: Rule) -> Leg:
    """The tries up to the first that is answered."""
    tries = (rule,) if isinstance(rule, str) else tuple(rule)
    answers = (index for index, result in enumerate(tries) if _is_answer(result))
    return Leg(tries[: next(answers, len(tries)) + 1])


def follow(first: Leg, second: Leg, *, minutes: int, elapsed: float) -> Progress:
    """Where a call of `minutes` is, `elapsed` seconds after its start."""
    if not first.is_answered:
        state = _phase(elapsed, first.seconds, "failed")
        return Progress(state, first.state(elapsed), NOT_SENT)
    settled = first.seconds + second.seconds
    talking = "in_progress" if elapsed < settled + 60 * minutes else "complete"
    state = _phase(elapsed, settled, talking if second.is_answered else "failed")
    return Progress(state, first.state(elapsed), second.state(elapsed - first.seconds))


def _phase(elapsed: float, settled: float, then: str) -> str:
    if elapsed < 0:
        return "pending"
    return "processing" if elapsed < settled else then


def _is_answer(result: str) -> bool:
    return result.casefold() == ANSWERED
