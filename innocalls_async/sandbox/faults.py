"""What can go wrong with a request, and when it does."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping

import attrs

from innocalls_async.sandbox.exchange import Ending

OPERATIONS = ("authorize", "create", "status", "edit", "delete")


@attrs.frozen
class Fault:
    """One way to fail; `status` None leaves the controller's own."""

    name: str
    status: int | None = None
    runs: bool = True
    """Whether the controller runs, so that a create is on the books."""
    ending: Ending = Ending.WHOLE
    has_retry_after: bool = False


def _refuse(status: int) -> Fault:
    return Fault(str(status), status, runs=False, has_retry_after=status == 429)


def _refuse_for_now(status: int) -> Fault:
    return Fault(f"{status}-retry-after", status, runs=False, has_retry_after=True)


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        *map(_refuse, (400, 401, 403, 404, 405, 406, 408, 410, 418, 429, 500, 502, 503, 504)),
        Fault("429-bare", 429, runs=False),
        *map(_refuse_for_now, (500, 502, 503)),
        Fault("500-after", 500),
        Fault("502-after", 502),
        Fault("504-after", 504),
        Fault("drop", ending=Ending.DROPPED),
        Fault("drop-before", runs=False, ending=Ending.DROPPED),
        Fault("stall"),
        Fault("cut", ending=Ending.CUT),
        Fault("garbage", 200),
        Fault("html", 200),
        Fault("late"),
    )
}


@attrs.define
class _Failure:
    fault: str
    operation: str | None
    times: int


@attrs.define
class FaultPlan:
    """Which fault each request meets: those asked for, then the script, then chance."""

    probabilities: Mapping[str, float]
    script: deque[str | None]
    _random: random.Random
    _asked: list[_Failure] = attrs.field(init=False, factory=list)

    def ask(self, fault: str, *, times: int, operation: str | None) -> None:
        """Fail the next `times` requests of `operation` (None: of any)."""
        check_name(fault)
        if operation is not None and operation not in OPERATIONS:
            raise ValueError(f"unknown operation {operation!r}: one of {', '.join(OPERATIONS)}")
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times!r}")
        self._asked.append(_Failure(fault, operation, times))

    def draw(self, operation: str | None) -> Fault | None:
        """The fault for one request."""
        if self._asked and (name := self._draw_asked(operation)):
            return FAULTS[name]
        if self.script:
            scripted = self.script.popleft()
            return None if scripted is None else FAULTS[scripted]
        return self._draw_random() if self.probabilities else None

    def _draw_asked(self, operation: str | None) -> str | None:
        for failure in self._asked:
            if failure.operation in (None, operation):
                failure.times -= 1
                if not failure.times:
                    self._asked.remove(failure)
                return failure.fault
        return None

    def _draw_random(self) -> Fault | None:
        point = self._random.random()
        for name, probability in self.probabilities.items():
            point -= probability
            if point < 0:
                return FAULTS[name]
        return None


def parse_faults(text: str) -> dict[str, float]:
    """`"503=0.05,drop=0.01"` as a mapping; a bad text is a `ValueError` that says why."""
    faults: dict[str, float] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, _, probability = (word.strip() for word in item.partition("="))
        try:
            faults[name] = float(probability)
        except ValueError:
            raise ValueError(f"{item!r} is not name=probability; {_names()}") from None
    return check_faults(faults)


def check_faults(faults: Mapping[str, float]) -> dict[str, float]:
    """The same mapping, once its names and probabilities are known to be good."""
    for name, probability in faults.items():
        check_name(name)
        if not 0 <= probability <= 1:
            raise ValueError(f"the probability of {name!r} must be 0 to 1, not {probability!r}")
    total = sum(faults.values())
    if total > 1 + 1e-9:  # 0.7 + 0.2 + 0.1 is a little more than 1 in binary
        raise ValueError(f"the probabilities of the faults sum to {total:g}, which is over 1")
    return dict(faults)


def check_script(script: Iterable[str | None]) -> tuple[str | None, ...]:
    """The script as it is, once its names are known to be good."""
    if isinstance(script, str):
        raise TypeError(f"script must be a sequence of fault names, not the string {script!r}")
    names = tuple(script)
    for name in names:
        if name is not None:
            check_name(name)
    return names


def check_name(name: str) -> None:
    """Raise `ValueError` for a name that is no fault's."""
    if name not in FAULTS:
        raise ValueError(f"unknown fault {name!r}; {_names()}")


def _names() -> str:
    return f"the faults are {', '.join(FAULTS)}"
