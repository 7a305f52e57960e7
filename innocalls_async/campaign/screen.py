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
# A call that is to come so soon goes at once: by the time that the service reads it, or by its
# clock, it may be over, and nobody minds.
SOON_SECONDS: Final = 10


@define
class Screening:
    """Keeps back who is on the do-not-call list and what is too late; a row that would be rung
    now goes only if this is a legal hour, and is planned anew if not.

    A row keeps its call time in the ledger, also where it is sent without one.
    """

    options: InputOptions
    do_not_call: DoNotCall | None
    planner: Planner | None

    @classmethod
    def of(cls, options: InputOptions) -> Self:
        """By the options of the campaign; the do-not-call list and the holidays are read now."""
        # Without the cap on lines: it was kept when the whole was planned.
        plan = attrs.evolve(options.plan, spread=None)
        planner = plan.planner(options.timezone, datetime.now(UTC), allow_past=False)
        return cls(options, options.do_not_call(), planner if options.plan.is_any else None)

    def __call__(self, call: Call, moment: float) -> Call | Block:
        """The call as it may go at `moment`, in unix seconds, or why it may not."""
        objection = None if self.do_not_call is None else self.do_not_call.refreshed().reason(call)
        if objection is not None:
            return Block(State.REFUSED, objection)
        if call.call_time is None:
            return self._at_once(call, moment)
        if call.call_time > moment:
            return self._soon(call, moment)
        is_late = moment - call.call_time > LATE_SECONDS and call.asked_time is not None
        if is_late and not self.options.allow_past:
            return Block(State.EXPIRED, "call_time: was over before it could be sent")
        return self._at_once(call, moment)

    def _soon(self, call: Call, moment: float) -> Call:
        assert call.call_time is not None  # noqa: S101 - as asked
        # Where lines are counted, they are to the second.
        if call.call_time > moment + SOON_SECONDS or self.options.plan.spread is not None:
            return call
        found = self._at_once(call, moment)
        # The hours may begin with it.
        return found if isinstance(found, Call) and found.at_once else call

    def _at_once(self, call: Call, moment: float) -> Call | Block:
        if self.planner is None:
            return attrs.evolve(call, at_once=True)
        row = PlanRow(
            call.row, call.first_callee_number, call.second_callee_number, None, call.duration
        )
        planned = self.planner.plan_anew(row, datetime.fromtimestamp(moment, UTC))
        if planned.refusal is not None:
            expired = planned.refusal is Refusal.EXPIRED
            state = State.EXPIRED if expired else State.REFUSED
            return Block(state, planned.refusal.explanation)
        if planned.call_time is None:
            return attrs.evolve(call, at_once=True)
        return attrs.evolve(call, call_time=int(planned.call_time.timestamp()))
