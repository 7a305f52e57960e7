"""What is said of the input and its plan before anything is sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from innocalls_async.campaign import Campaign, InputOptions, intake
from innocalls_async.campaign.cautions import cautions
from innocalls_async.campaign.intake import Loaded
from innocalls_async.campaign.store import is_ledger_there
from innocalls_async.cli.campaign_account import tell_facts
from innocalls_async.cli.campaign_progress import complain, tell
from innocalls_async.cli.campaign_run import Rate
from innocalls_async.cli.common import count, fail

__all__ = ["show_plan", "tell_loaded"]

_LIKE_A_TIME: Final = re.compile(r"time|date|when|schedul", re.IGNORECASE)


def tell_loaded(campaign: Campaign, *, as_json: bool) -> None:
    """What was loaded, or is gone on with; and, on stderr, what somebody should know of it."""
    if not as_json:
        _tell_rows(campaign)
    if campaign.loaded is not None:
        _warn_of_columns(campaign.loaded)
    if left_out := int(campaign.ledger.setting("left_out") or 0):
        complain(
            f"Caution: {count(left_out, 'row')} of the file left out as no good, so nobody calls "
            "them: mend them in a file of their own, with a ledger of its own."
        )
    for caution in campaign.cautions():
        complain(f"Caution: {caution}.")


def _tell_rows(campaign: Campaign) -> None:
    loaded = campaign.loaded
    if loaded is None:
        left = campaign.progress.left
        tell(f"Going on with {campaign.ledger.path}: {count(left, 'row')} left.")
    else:
        _tell_input(loaded)
    if campaign.ledger.recovered:
        tell(
            f"{count(campaign.ledger.recovered, 'row')} on the wire when the last run was killed: "
            "in doubt now."
        )


def _tell_input(loaded: Loaded) -> None:
    skipped = f", {loaded.skipped} left out" if loaded.skipped else ""
    tell(f"{count(loaded.rows, 'row')}{skipped}.")
    _tell_use(loaded)


def _tell_use(loaded: Loaded) -> None:
    if loaded.ignored:
        tell(f"Columns that nothing is done with: {', '.join(loaded.ignored)}.")
    if loaded.listed is not None:
        tell(
            f"Do-not-call list: {count(loaded.listed, 'number')}; it refuses "
            f"{count(loaded.on_list, 'row')}."
        )


def _warn_of_columns(loaded: Loaded) -> None:
    """Calls whose time stands in a column that nobody reads go at once."""
    if times := [name for name in loaded.ignored if _LIKE_A_TIME.search(name)]:
        complain(
            f"Caution: nothing is done with the column {', '.join(times)}; the time of a call is "
            "read from `call_time`."
        )


def show_plan(
    calls: Path, ledger: Path, options: InputOptions, rate: Rate, *, as_json: bool
) -> None:
    """What a run would do."""
    if is_ledger_there(ledger):
        fail(f"{ledger} is there already, and planned; `innocalls campaign status` shows it")
    loaded = intake.load(calls, ledger, options, on_problem=complain, dry_run=True)
    plan = loaded.summary
    assert plan is not None  # noqa: S101 - a dry run always has one
    busiest = plan.busiest_hour
    facts = {
        "rows": loaded.rows,
        "left_out": loaded.skipped,
        "to_send": plan.to_send,
        "moved": plan.moved,
        "refused": {str(refusal): count for refusal, count in plan.refused.items()},
        "on_do_not_call_list": loaded.on_list,
        "first_call": plan.first_call,
        "last_call": plan.last_call,
        "busiest_hour": busiest and {"from": busiest[0], "calls": busiest[1]},
        "sending_seconds": round(plan.sending_seconds(rate.a_second), 1),
    }
    if as_json:
        facts |= {"do_not_call_list": loaded.listed, "unused_columns": loaded.ignored}
    tell_facts(facts, as_json=as_json)
    if not as_json:
        _tell_use(loaded)
    _warn_of_columns(loaded)
    now = datetime.now(UTC)
    for caution in cautions(plan.minutes, plan.zone, now, options.plan):
        complain(f"Caution: {caution}.")
