"""What a campaign is asked to do with its input."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import attrs
from attrs import field, frozen

from innocalls_async.campaign.cells import number_parser
from innocalls_async.campaign.errors import InputError
from innocalls_async.campaign.plan import Planner
from innocalls_async.campaign.suppression import DoNotCall

__all__ = ["InputOptions", "PlanOptions"]


@frozen(kw_only=True)
class PlanOptions:
    """When calls may be made; see `innocalls_async.campaign.plan.Planner.from_options`."""

    window: str | None = None
    days: str | None = None
    holidays: str | None = None
    hours_in: str = "account"
    outside: str = "move"
    not_after: str | None = None
    spread: int | None = None

    @property
    def is_any(self) -> bool:
        """Whether they ask for anything."""
        return self != PlanOptions()

    def planner(
        self, timezone: str, now: datetime, *, allow_past: bool, calls: int | None = None
    ) -> Planner:
        """A planner by these options. `InputError` for one that cannot be read."""
        try:
            return Planner.from_options(
                zone=timezone, now=now, allow_past=allow_past, calls=calls, **attrs.asdict(self)
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        except OSError as error:
            raise InputError(f"{self.holidays} cannot be read: {error.strerror}") from error


@frozen(kw_only=True)
class InputOptions:
    """How the input is read and what is refused. They are kept in the ledger.

    `timezone` is the account's zone; `region` (`EG`) lets numbers be national; `suppress` is the
    do-not-call list. Rows that are no good, duplicates, and times that are over refuse the whole
    input, unless `skip_invalid`, `allow_duplicates` or `allow_past` says otherwise.
    """

    timezone: str = "Africa/Cairo"
    region: str | None = None
    suppress: Path | None = field(default=None, converter=attrs.converters.optional(Path))
    skip_invalid: bool = False
    allow_duplicates: bool = False
    allow_past: bool = False
    plan: PlanOptions = PlanOptions()

    @property
    def planned_by(self) -> dict[str, object]:
        """What the times in the ledger come from, by name: it stays for the whole campaign."""
        planned = {"timezone": self.timezone, **attrs.asdict(self.plan)}
        planned["spread (half of the lines)"] = planned.pop("spread")
        return planned

    def do_not_call(self) -> DoNotCall | None:
        """The do-not-call list as it is now."""
        if self.suppress is None:
            return None
        return DoNotCall.read(self.suppress, number_parser(self.region))

    def to_json(self) -> str:
        return json.dumps(attrs.asdict(self), default=str, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> InputOptions:
        values = json.loads(text)
        return cls(**{**values, "plan": PlanOptions(**values["plan"])})
