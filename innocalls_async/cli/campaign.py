"""`innocalls campaign`: a file of calls, carried out durably."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from innocalls_async.campaign import (
    Campaign,
    CampaignError,
    InputOptions,
    PlanOptions,
    Result,
    State,
    intake,
)
from innocalls_async.campaign.intake import Loaded
from innocalls_async.campaign.store import is_ledger_there
from innocalls_async.cli import campaign_account, campaign_after
from innocalls_async.cli.campaign_account import tell_counts, tell_facts
from innocalls_async.cli.campaign_run import Rate, Service, exit_code, run_campaign, tell, told
from innocalls_async.cli.common import (
    BaseUrl,
    Exit,
    Json,
    fail,
    read_token,
    run,
)

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Carry out a file of calls: each row once, whatever dies, with a true account.",
)

_EXIT_CODES = (
    "Exit codes: 0 all scheduled; 2 bad usage or input; 3 some refused or expired; 4 some in "
    "doubt; 5 stopped (token refused, service down, --stop-after, or the ledger cannot be "
    "written): the same command goes on; 130 interrupted."
)


class HoursIn(StrEnum):
    """Whose clock the hours are on."""

    ACCOUNT = "account"
    CALLEE = "callee"


class Outside(StrEnum):
    """What becomes of a call outside of the hours."""

    MOVE = "move"
    REFUSE = "refuse"


@app.command(
    "run",
    epilog="Example: innocalls campaign run calls.csv --ledger run.db --rate 20/s "
    f"--window 09:00-17:00 --days sun-thu. {_EXIT_CODES}",
)
def run_command(
    calls: Annotated[
        Path, typer.Argument(metavar="CALLS.csv", help="The calls: CSV, or JSON lines (.jsonl).")
    ],
    ledger: Annotated[
        Path, typer.Option(help="The durable record. Made if it is not there, else gone on with.")
    ],
    *,
    rate: Annotated[str, typer.Option(help="Requests at most: 20/s, 1200/m.")] = "50/s",
    concurrency: Annotated[
        int, typer.Option(min=1, help="Calls under way at most; a crash leaves no more in doubt.")
    ] = 100,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many refusals.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, send nothing.")
    ] = False,
    region: Annotated[
        str | None, typer.Option(help="Country of numbers without a country code: EG.")
    ] = None,
    suppress: Annotated[
        Path | None, typer.Option(help="A do-not-call list; it is read at each run.")
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Leave out rows that are no good.")
    ] = False,
    allow_duplicates: Annotated[
        bool, typer.Option("--allow-duplicates", help="Take the same ref, or callees and time.")
    ] = False,
    allow_past: Annotated[
        bool, typer.Option("--allow-past", help="Take times that are over.")
    ] = False,
    timezone: Annotated[str, typer.Option(help="The account's time zone.")] = "Africa/Cairo",
    window: Annotated[str | None, typer.Option(help="Hours to call in: 09:00-17:00.")] = None,
    days: Annotated[str | None, typer.Option(help="Days to call on: sun-thu.")] = None,
    holidays: Annotated[Path | None, typer.Option(help="A file of dates not to call on.")] = None,
    hours_in: Annotated[HoursIn, typer.Option(help="Whose clock those are on.")] = HoursIn.ACCOUNT,
    outside: Annotated[
        Outside, typer.Option(help="What becomes of a call outside of them.")
    ] = Outside.MOVE,
    not_after: Annotated[
        str | None, typer.Option(help="Begin no call after: 2026-11-30, 2026-11-30T17:00.")
    ] = None,
    spread: Annotated[
        bool,
        typer.Option("--spread", help="Spread the calls evenly over the hours; needs --lines."),
    ] = False,
    lines: Annotated[
        int | None, typer.Option(min=2, help="Phone lines there are; each call takes two.")
    ] = None,
    base_url: BaseUrl = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Dial nobody: use a service inside this process.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="The fast transport (extra `fast`).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Schedule every row of a file once. The same command again goes on where it was ended."""
    if spread and lines is None:
        fail("--spread needs --lines: how many phone lines there are")
    plan = PlanOptions(
        window=window,
        days=days,
        holidays=None if holidays is None else str(holidays),
        hours_in=str(hours_in),
        outside=str(outside),
        not_after=not_after,
        spread=lines // 2 if spread and lines is not None else None,
    )
    options = InputOptions(
        timezone=timezone,
        region=region,
        suppress=suppress,
        skip_invalid=skip_invalid,
        allow_duplicates=allow_duplicates,
        allow_past=allow_past,
        plan=plan,
    )
    limit = Rate.read(rate)
    with told():
        if dry_run:
            _dry_run(calls, ledger, options, limit, as_json=as_json)
            return
        service = Service(
            token="sandbox" if sandbox else read_token(),
            timezone=timezone,
            base_url=base_url,
            sandbox=sandbox,
            fast=fast,
            rate=limit,
            concurrency=concurrency,
        )
        with Campaign.load(calls, ledger, options, on_problem=_complain) as campaign:
            code = _carry_out(campaign, service, stop_after, as_json=as_json)
    raise typer.Exit(code)


def _carry_out(
    campaign: Campaign, service: Service, stop_after: int | None, *, as_json: bool
) -> Exit:
    if not as_json:
        _tell_loaded(campaign)

    async def work() -> Result | CampaignError:
        try:
            return await run_campaign(campaign, service, stop_after=stop_after, as_json=as_json)
        except CampaignError as error:
            return error

    result = run(work)
    if isinstance(result, CampaignError):
        fail(str(result), Exit.STOPPED)
    counts, reason = campaign.account(), campaign.progress.reason
    tell_counts(counts, as_json=as_json, more={"event": "end", "result": result, "reason": reason})
    if reason is not None and not as_json:
        tell(f"Stopped: {reason}. The same command goes on with the {counts[State.PENDING]} left.")
    return exit_code(counts, result)


def _complain(problem: object) -> None:
    typer.echo(str(problem), err=True)


def _tell_loaded(campaign: Campaign) -> None:
    loaded = campaign.loaded
    if loaded is None:
        left = campaign.progress.left
        tell(f"Going on with {campaign.ledger.path}: {left} rows are left.")
    else:
        _tell_input(loaded)
    if campaign.ledger.recovered:
        tell(
            f"{campaign.ledger.recovered} rows were being sent when the last run was killed; they "
            "are in doubt now."
        )


def _tell_input(loaded: Loaded) -> None:
    skipped = f", {loaded.skipped} left out" if loaded.skipped else ""
    tell(f"{loaded.rows} rows{skipped}.")
    if loaded.ignored:
        tell(f"Columns that nothing is done with: {', '.join(loaded.ignored)}.")


def _dry_run(
    calls: Path, ledger: Path, options: InputOptions, rate: Rate, *, as_json: bool
) -> None:
    if is_ledger_there(ledger):
        fail(f"{ledger} is there already, and planned; `innocalls campaign status` shows it")
    loaded = intake.load(calls, ledger, options, on_problem=_complain, dry_run=True)
    plan = loaded.summary
    assert plan is not None  # noqa: S101 - a dry run always has one
    busiest = plan.busiest_hour
    facts = {
        "rows": loaded.rows,
        "left_out": loaded.skipped,
        "to_send": plan.to_send,
        "moved": plan.moved,
        "refused": {str(refusal): count for refusal, count in plan.refused.items()},
        "on_do_not_call_list": loaded.rows - plan.rows,
        "first_call": plan.first_call and plan.first_call.isoformat(),
        "last_call": plan.last_call and plan.last_call.isoformat(),
        "busiest_hour": busiest and {"from": busiest[0].isoformat(), "calls": busiest[1]},
        "sending_seconds": round(plan.sending_seconds(rate.a_second), 1),
    }
    tell_facts(facts, as_json=as_json)


app.command(epilog=f"Example: innocalls campaign status run.db. {_EXIT_CODES}")(
    campaign_account.status
)
app.command(
    "export", epilog="Example: innocalls campaign export run.db --format csv > account.csv"
)(campaign_account.export_rows)
app.command(epilog="Example: innocalls campaign report run.db --html report.html")(
    campaign_account.report
)
app.command(
    epilog="Example: innocalls campaign resolve run.db --row 17 --as-sent --call-id f2281763"
)(campaign_after.resolve)
app.command(epilog="Example: innocalls campaign cancel run.db --all")(campaign_after.cancel)
app.command(epilog="Example: innocalls campaign reschedule run.db --shift 2h --all")(
    campaign_after.reschedule
)
app.command(epilog="Example: innocalls campaign watch run.db --timeout 3600")(campaign_after.watch)
