"""What a benchmark is: named cases, each measured in a process of its own, in rounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import field, frozen

from benchmarks.target import Target

__all__ = ["Benchmark", "Case", "Figures", "Goal", "Medians", "at_least", "at_most"]

Figures: TypeAlias = dict[str, float]
Medians: TypeAlias = Mapping[str, Figures]  # by the case's name


@frozen
class Case:
    """One thing that is measured; `options` are what `Benchmark.measure` is given. `rounds` is
    for one that takes so long that it is measured less often than the others."""

    name: str
    options: Mapping[str, Any] = field(factory=dict)
    uses_uvloop: bool = False
    rounds: int | None = None


@frozen
class Goal:
    """What is to be reached; `is_met` says whether it was."""

    text: str
    value: float
    is_met: bool


def at_least(bound: float, text: str, value: float) -> Goal:
    """The goal of a `value` that may not be lower than `bound`."""
    return Goal(f"{text}: at least {bound:g}", value, value >= bound)


def at_most(bound: float, text: str, value: float) -> Goal:
    """The goal of a `value` that may not be higher than `bound`."""
    return Goal(f"{text}: at most {bound:g}", value, value <= bound)


@frozen
class Benchmark:
    """`columns` are the figures that its table shows, each with its heading. With `reference`,
    the table also has how many times that case's `per_second` each case reaches."""

    name: str
    title: str
    columns: Mapping[str, str]
    cases: Callable[[bool], Sequence[Case]]  # called with whether it is a quick run
    measure: Callable[[Mapping[str, Any], Target], Awaitable[Figures]]
    goals: Callable[[Medians], Sequence[Goal]]
    reference: str | None = None
