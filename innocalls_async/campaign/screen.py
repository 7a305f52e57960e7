"""The last look at a row, when it is about to be sent: hours or days after it was planned."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Self

import attrs
from attrs import define

from innocalls_async.campaign.intake import InputOptions
from innocalls_async.campaign.ledger import Block, Call
from innocalls_async.campaign.plan import Planner, PlanRow, Refusal
from innocalls_async.campaign.states import State
from innocalls_async.campaign.suppression import DoNotCall

__all__ = ["Screening"]

# A call that the file wants at a certain time goes out at once if that is over by less, which
# sending itself can take; after that, whoever was told the time does not expect it any more.
LATE_SECONDS: Final = 300
# How long a planner's idea of now is good enough for moving a call to the next opening.
_STALE_SECONDS: Final = 60.0


@define
class Screening:
    """Keeps back who is on the do-not-call list and what is too late; a row that would be rung
    now goes only if this is a legal hour, and is planned anew if not."""

    options: InputOptions
    do_not_call: DoNotCall | None
    _planner: Planner | None = None
    _planner_made: float = 0.0

    @classmethod
    def of(cls, options: InputOptions) -> Self:
        """By the options of the campaign; the do-not-call list is read now."""
        return cls(options, options.do_not_call())

    def __call__(self, call: Call, moment: float) -> Call | Block:
        """The call as it may go at `moment`, in unix seconds, or why it may not."""
        objection = None if self.do_not_call is None else self.do_not_call.reason(call)
        if objection is not None:
            return Block(State.REFUSED, objection)
        if call.call_time is None:
            return self._at_once(call, moment)
        if call.call_time >= moment:
            return call
        is_late = moment - call.call_time > LATE_SECONDS and call.asked_time is not None
        if is_late and not self.options.allow_past:
            return Block(State.EXPIRED, "call_time: was over before it could be sent")
        return self._at_once(attrs.evolve(call, call_time=None), moment)

    def _at_once(self, call: Call, moment: float) -> Call | Block:
        if not self.options.plan.is_any:
            return call
        planner = self._planner_at(moment)
        row = PlanRow(
            call.row, call.first_callee_number, call.second_callee_number, None, call.duration
        )
        if planner.may_start(row, datetime.fromtimestamp(moment, UTC)):
            return call
        (planned,) = planner.plan([row])
        if planned.refusal is not None:
            expired = planned.refusal is Refusal.EXPIRED
            state = State.EXPIRED if expired else State.REFUSED
            return Block(state, planned.refusal.explanation)
        if planned.call_time is None:
            return call
        return attrs.evolve(call, call_time=int(planned.call_time.timestamp()))

    def _planner_at(self, moment: float) -> Planner:
        if self._planner is None or moment - self._planner_made > _STALE_SECONDS:
            # Without the cap on lines: it was kept when the whole was planned.
            options = attrs.evolve(self.options.plan, spread=None)
            self._planner = options.planner(
                self.options.timezone, datetime.fromtimestamp(moment, UTC), allow_past=False
            )
            self._planner_made = moment
        return self._planner
