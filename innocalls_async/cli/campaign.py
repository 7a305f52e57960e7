"""`innocalls campaign`: a file of calls, carried out durably."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from innocalls_async import AsyncBridgeClient
from innocalls_async.campaign import (
    Campaign,
    CampaignError,
    InputOptions,
    PlanOptions,
    Result,
    State,
    after,
)
from innocalls_async.campaign.errors import DiskError
from innocalls_async.cli import campaign_account, campaign_after
from innocalls_async.cli.campaign_account import tell_counts
from innocalls_async.cli.campaign_plan import show_plan, tell_loaded
from innocalls_async.cli.campaign_progress import News, complain, run_news, tell, unheard
from innocalls_async.cli.campaign_run import Rate, Service, attended, exit_code, told
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
    "Exit codes: 0 all scheduled; 1 no room on the disk for the ledger; 2 bad usage or input; "
    "3 some refused or expired; 4 some in doubt; 5 stopped (token refused, service down, "
    "--stop-after, or the ledger cannot be written), so that rows are left to send: the same "
    "command goes on; 130 interrupted."
)


class HoursIn(StrEnum):
    """Whose clock the hours are on."""

    ACCOUNT = "account"
    CALLEE = "callee"


class Outside(StrEnum):
    """What becomes of a call outside of the hours."""

    MOVE = "move"
    REFUSE = "refuse"


class Creates(StrEnum):
    """When a call is sent again after an error of the service's."""

    DOCUMENTED = "documented"
    NEVER_TWICE = "never_twice"


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
        int | None,
        typer.Option(
            min=1,
            help="Stop after so many refusals; by default where all are refused alike.",
        ),
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
    creates: Annotated[
        Creates,
        typer.Option(help="After a 500 or 503: send again, as documented, or leave in doubt."),
    ] = Creates.DOCUMENTED,
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
    if spread != (lines is not None):
        fail("--spread and --lines go together: spread the calls over how many phone lines?")
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
            show_plan(calls, ledger, options, limit, as_json=as_json)
            return
        service = Service(
            token="sandbox" if sandbox else read_token(),
            timezone=timezone,
            base_url=base_url,
            sandbox=sandbox,
            fast=fast,
            rate=limit,
            concurrency=concurrency,
            creates="never_twice" if creates is Creates.NEVER_TWICE else "documented",
        )
        with (
            service.client() as client,
            Campaign.load(calls, ledger, options, on_problem=complain) as campaign,
        ):
            campaign.ledger.belong_to(service.name)
            code = _carry_out(campaign, client, service, stop_after, as_json=as_json)
    raise typer.Exit(code)


def _carry_out(
    campaign: Campaign,
    client: AsyncBridgeClient,
    service: Service,
    stop_after: int | None,
    *,
    as_json: bool,
) -> Exit:
    tell_loaded(campaign, as_json=as_json)
    rate = service.rate.a_second

    async def work() -> Result:
        async with client:
            return await campaign.run(
                client, rate=rate, concurrency=service.concurrency, stop_after=stop_after
            )

    def news() -> News:
        return run_news(campaign.progress, rate)

    async def attend() -> Result | Exception | None:
        try:
            return await attended(work, news, drain=campaign.drain, as_json=as_json)
        except (CampaignError, OSError, ValueError) as error:
            return error

    result = run(attend)
    if isinstance(result, Exception):
        fail(str(result), Exit.FAILED if isinstance(result, DiskError) else Exit.STOPPED)
    result = result or Result.INTERRUPTED
    _tell_end(campaign, result, as_json=as_json)
    return exit_code(campaign.account(), result)


def _tell_end(campaign: Campaign, result: Result, *, as_json: bool) -> None:
    counts, reason = campaign.account(), campaign.progress.reason
    complaint = campaign.progress.complaint
    more = {"event": "end", "result": result, "reason": reason, "complaint": complaint}
    with unheard():
        tell_counts(counts, as_json=as_json, more=more)
        if reason is not None and not as_json:
            left = counts[State.PENDING]
            tell(f"Stopped: {reason}. The same command goes on with the {left} left.")
        elif not as_json and exit_code(counts, result):
            _tell_trouble(campaign, complaint)
        if not as_json:
            _tell_next(campaign, counts, result)


def _tell_next(campaign: Campaign, counts: Mapping[State, int], result: Result) -> None:
    if result is Result.INTERRUPTED and counts[State.PENDING]:
        tell(f"Interrupted. The same command goes on with the {counts[State.PENDING]} left.")
    if counts[State.IN_DOUBT]:
        tell(
            "What is in doubt is not sent again by itself: look it up at the service, then settle "
            f"it: innocalls campaign resolve {campaign.ledger.path}."
        )


def _tell_trouble(campaign: Campaign, complaint: str | None) -> None:
    if complaint is not None:
        tell(f"Last trouble: {complaint.rstrip('.')}. All of it: innocalls campaign report.")
    elif campaign.ledger.calls(after.REFUSED_THERE, limit=1):
        tell(
            "What the service refused earlier stays so. To send it again: innocalls campaign "
            f"resolve {campaign.ledger.path} --refused --send-again --all; then run"
        )


app.command(epilog=f"Example: innocalls campaign status run.db. {_EXIT_CODES}")(
    campaign_account.status
)
app.command(
    "export", epilog="Example: innocalls campaign export run.db --format csv > account.csv"
)(campaign_account.export_rows)
app.command(epilog="Example: innocalls campaign report run.db --html report.html")(
    campaign_account.report
)
app.command(epilog="Example: innocalls campaign backup run.db copy.db")(campaign_account.backup)
app.command(
    epilog="Example: innocalls campaign resolve run.db --row 17 --as-sent --call-id f2281763"
)(campaign_after.resolve)
app.command(epilog="Example: innocalls campaign cancel run.db --all")(campaign_after.cancel)
app.command(epilog="Example: innocalls campaign reschedule run.db --shift 2h --all")(
    campaign_after.reschedule
)
app.command(epilog="Example: innocalls campaign watch run.db --timeout 3600")(campaign_after.watch)
