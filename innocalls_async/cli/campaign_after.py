"""The commands for a campaign that was sent: settle doubts, cancel, move, follow."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import attrs
import typer

from innocalls_async import AsyncBridgeClient
from innocalls_async.campaign import Campaign, Selection, State, after
from innocalls_async.campaign.after import Swept, Verdict
from innocalls_async.campaign.moving import reschedule as move
from innocalls_async.campaign.watching import Watch, Watched
from innocalls_async.cli import one_line
from innocalls_async.cli.campaign_progress import News, minute, unheard, watch_news
from innocalls_async.cli.campaign_run import Rate, Service, attended, tell, told
from innocalls_async.cli.common import BaseUrl, Exit, Json, count, fail, print_json, read_token, run
from innocalls_async.masking import mask_number
from innocalls_async.times import load_zone

__all__ = ["cancel", "reschedule", "resolve", "watch"]

Result = TypeVar("Result")

LedgerFile = Annotated[Path, typer.Argument(metavar="RUN.db", help="The campaign's ledger.")]
Rows = Annotated[
    list[int] | None,
    typer.Option(
        "--row", help="A row by its number (`row` in the export; not the line); again: more."
    ),
]
Refs = Annotated[list[str] | None, typer.Option("--ref", help="A row by its ref; again: more.")]
All = Annotated[bool, typer.Option("--all", help="All rows that it can be done to.")]
RateOption = Annotated[str, typer.Option("--rate", help="Requests at most: 20/s, 1200/m.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at most.")]

_ALL = Selection()
# Of rows that somebody named, those that are named back.
_NAMED = 20
_SHIFT = re.compile(r"([+-]?)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?", re.IGNORECASE)


def resolve(
    ledger: LedgerFile,
    *,
    send_again: Annotated[
        bool, typer.Option("--send-again", help="They are not on the books: make them pending.")
    ] = False,
    refused: Annotated[
        bool,
        typer.Option("--refused", help="Not rows in doubt: those that the service refused."),
    ] = False,
    as_sent: Annotated[
        bool, typer.Option("--as-sent", help="They are on the books: take them as scheduled.")
    ] = False,
    call_id: Annotated[
        str | None, typer.Option(help="The id that the service has for it; with one row.")
    ] = None,
    row: Rows = None,
    ref: Refs = None,
    every: All = False,
    as_json: Json = False,
) -> None:
    """Settle rows in doubt, once you looked them up at the service. Sends nothing by itself.

    With --refused --send-again, rows that the service refused are made pending again.
    """
    if send_again == as_sent:
        fail("say what became of them: --send-again or --as-sent")
    if refused and as_sent:
        fail("--refused goes with --send-again: a refused row is on nobody's books")
    again: Verdict = "send_refused_again" if refused else "send_again"
    selection = _selection(row, ref, every=every)
    with told(), Campaign.open(ledger) as campaign:
        campaign.ledger.require(selection)
        settled = after.resolve(
            campaign.ledger, again if send_again else "sent", selection, call_id=call_id
        )
        if as_json:
            print_json({"resolved": settled})
            return
        follows = "; the `run` command sends them" if send_again and settled else ""
        tell(f"{count(settled, 'row')} settled{follows}.")
        _tell_chosen(campaign, selection)


def cancel(
    ledger: LedgerFile,
    *,
    row: Rows = None,
    ref: Refs = None,
    every: All = False,
    rate: RateOption = "50/s",
    concurrency: Concurrency = 100,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Cancel what is still to come: rows not sent yet, and calls on the service's books."""
    selection = _selection(row, ref, every=every)
    swept = _with_service(
        ledger,
        (rate, concurrency, base_url),
        lambda campaign, client: after.cancel(
            campaign.ledger, client, selection, concurrency=concurrency
        ),
        selection,
        as_json=as_json,
    )
    _tell_swept(swept, "cancelled", as_json=as_json)


def reschedule(
    ledger: LedgerFile,
    *,
    shift: Annotated[str, typer.Option(help="By how much: 2h, 1d, 90m, -30m.")],
    row: Rows = None,
    ref: Refs = None,
    every: All = False,
    rate: RateOption = "50/s",
    concurrency: Concurrency = 100,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Move calls that are still to come, within the campaign's hours and lines.

    One that was broken off is finished first; the same command again does only that.
    """
    selection = _selection(row, ref, every=every)
    amount = _shift(shift)
    swept = _with_service(
        ledger,
        (rate, concurrency, base_url),
        lambda campaign, client: move(
            campaign.ledger, client, amount, selection, concurrency=concurrency
        ),
        selection,
        as_json=as_json,
    )
    _tell_swept(swept, "moved", as_json=as_json)


def watch(
    ledger: LedgerFile,
    *,
    timeout: Annotated[float | None, typer.Option(help="Seconds to watch at most.")] = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds to a call's 2nd poll.")] = 2.0,
    rate: RateOption = "50/s",
    concurrency: Concurrency = 100,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Ask for each call after its time until it is at its end; again: goes on.

    Its time is by this machine's clock. Exits with 5 if time ran out with calls left to watch.
    """
    watching: list[Watch] = []
    doubts: list[int] = []

    async def follow(campaign: Campaign, client: AsyncBridgeClient) -> Watched:
        one = Watch(campaign.ledger, client, concurrency=concurrency, interval=interval)
        watching.append(one)
        watched = await one.run(timeout)
        doubts.append(campaign.account()[State.IN_DOUBT])
        return watched

    watched = _with_service(
        ledger,
        (rate, concurrency, base_url),
        follow,
        news=lambda: watch_news(watching[0].so_far if watching else Watched(0, 0, 0)),
        as_json=as_json,
    )
    with unheard():
        if as_json:
            print_json(attrs.asdict(watched))
        else:
            next_one = f", the next at {minute(watched.next_due)}" if watched.next_due else ""
            tell(
                f"{watched.final} calls came to their end, {watched.unknown} are not known to the "
                f"service, {watched.left} are still to be watched{next_one}."
            )
            if doubts[0]:
                tell(f"Nobody watches what is in doubt: {count(doubts[0], 'row')}.")
    if watched.left:
        raise typer.Exit(Exit.STOPPED)


def _selection(rows: list[int] | None, refs: list[str] | None, *, every: bool) -> Selection:
    if every == bool(rows or refs):
        fail("say which rows: --row, --ref or --all")
    return Selection(rows or (), refs or ())


def _tell_chosen(campaign: Campaign, selection: Selection) -> None:
    """Say who the rows are that somebody named by number: it is easy to be one off."""
    if selection == _ALL:
        return
    zone = load_zone(campaign.options.timezone)
    where, parameters = selection.condition()
    for call in campaign.ledger.calls(where, parameters, limit=_NAMED):
        names = (call.first_callee_name, call.second_callee_name)
        numbers = (call.first_callee_number, call.second_callee_number)
        callees = " and ".join(
            f"{name} {mask_number(number)}" for name, number in zip(names, numbers, strict=True)
        )
        when = minute(datetime.fromtimestamp(call.call_time, zone)) if call.call_time else "at once"
        tell(one_line(f"Named: row {call.row} (ref {call.ref}): {callees}, {when}"))
    if (more := len(selection.rows) + len(selection.refs) - _NAMED) > 0:
        tell(f"and {more} more")


def _shift(text: str) -> timedelta:
    found = _SHIFT.fullmatch(text.strip())
    if not found or not any(found.groups()[1:]):
        fail(f"--shift: {text!r} is no time such as 2h, 1d, 90m or -30m")
    days, hours, minutes = (int(part or 0) for part in found.groups()[1:])
    amount = timedelta(days=days, hours=hours, minutes=minutes)
    return -amount if found[1] == "-" else amount


def _with_service(
    ledger: Path,
    reach: tuple[str, int, str | None],
    operate: Callable[[Campaign, AsyncBridgeClient], Awaitable[Result]],
    selection: Selection = _ALL,
    *,
    news: Callable[[], News] | None = None,
    as_json: bool,
) -> Result:
    rate, concurrency, base_url = reach
    limit = Rate.read(rate)
    with told(), Campaign.open(ledger) as campaign:
        service = Service(
            token=read_token(),
            timezone=campaign.options.timezone,
            base_url=base_url,
            rate=limit,
            concurrency=concurrency,
        )
        with service.client() as client:
            campaign.ledger.require(selection)
            campaign.ledger.belong_to(service.name)

            async def work() -> Result:
                async with client:
                    return await operate(campaign, client)

            result = run(lambda: attended(work, news, as_json=as_json))
        if result is not None and not as_json:
            _tell_chosen(campaign, selection)
    if result is None:
        fail("interrupted; the same command goes on", Exit.INTERRUPTED)
    return result


def _tell_swept(swept: Swept, done: str, *, as_json: bool) -> None:
    with unheard():
        if as_json:
            print_json(attrs.asdict(swept))
        else:
            _tell_people(swept, done)
    if swept.failed:
        raise typer.Exit(Exit.REFUSED)
    if swept.in_doubt or swept.without_id:
        raise typer.Exit(Exit.IN_DOUBT)


def _tell_people(swept: Swept, done: str) -> None:
    tell(
        f"{count(swept.here, 'row')} {done} here, {swept.at_service} {done} at the service, "
        f"{swept.failed} failed there, {swept.left} left as they are"
        f"{' (over or about to be, or not on the books)' if swept.left else ''}."
    )
    if swept.in_doubt:
        tell(
            f"{count(swept.in_doubt, 'row')} in doubt may be on the books, and ring as planned: "
            "look them up at the service, settle them with `innocalls campaign resolve`, and give "
            "this command again."
        )
    if swept.without_id:
        tell(
            f"{count(swept.without_id, 'call')} on the books without a call id here, to ring as "
            f"planned: they can be {done} at the service alone."
        )
    if swept.went_on:
        tell("This finished the one that was broken off; nothing else was moved.")
    if swept.stuck:
        named = ", ".join(map(str, swept.stuck))
        tell(f"Not moved yet, and tried again by the next one: rows {named}.")
