"""`innocalls call`: one operation on one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, TypeVar
from zoneinfo import ZoneInfo

import attrs
import typer

import innocalls_async as api  # whose client is imported when it is needed
from innocalls_async.cli import complain, one_line
from innocalls_async.cli.common import (
    BaseUrl,
    Exit,
    Json,
    PlainHttp,
    fail,
    in_options,
    print_json,
    print_line,
    read_token,
    run,
    to_json,
    write_line,
)
from innocalls_async.events import Event, OperationEnded
from innocalls_async.masking import mask_number
from innocalls_async.times import load_zone, wall_time

__all__ = ["app"]

Result = TypeVar("Result")

_DOUBT: Final = (
    "interrupted: the call may or may not be on the service's books; look before it is sent again"
)

app = typer.Typer(
    no_args_is_help=True,
    help="Create, read, edit, delete or wait for one call.",
    epilog="Example: innocalls call status f2281763 --flow F1",
)

CallId = Annotated[str, typer.Argument(help="The id that `create` printed.")]
Flow = Annotated[str, typer.Option("--flow", help="The call flow's id.")]
First = Annotated[str, typer.Option("--first", help="The first callee's number: +20 112 345 6789.")]
FirstName = Annotated[str, typer.Option("--first-name", help="The first callee's name.")]
Second = Annotated[str, typer.Option("--second", help="The second callee's number.")]
SecondName = Annotated[str, typer.Option("--second-name", help="The second callee's name.")]
Minutes = Annotated[int, typer.Option("--duration", help="Minutes that the call may last.")]
At = Annotated[str, typer.Option("--at", help="When: 2026-04-23 10:30, in --timezone, or ISO.")]
MaybeAt = Annotated[
    str | None,
    typer.Option("--at", help="When: 2026-04-23 10:30, in --timezone, or ISO; left out: now."),
]
Zone = Annotated[str, typer.Option(help="The account's time zone.")]


@app.command(
    epilog="Example: innocalls call create --flow F1 --first +201123456789 --first-name Mona "
    "--second +201198765432 --second-name Omar --duration 5"
)
def create(
    *,
    flow: Flow,
    first: First,
    first_name: FirstName,
    second: Second,
    second_name: SecondName,
    duration: Minutes,
    at: MaybeAt = None,
    timezone: Zone = "Africa/Cairo",
    base_url: BaseUrl = None,
    allow_plain_http: PlainHttp = False,
    as_json: Json = False,
) -> None:
    """Put a call on the service's books and print its id."""
    request = _request(
        flow=flow,
        first=first,
        first_name=first_name,
        second=second,
        second_name=second_name,
        duration=duration,
        at=at,
        timezone=timezone,
    )
    call = _with_client(
        lambda client: client.bridge(request),
        base_url=base_url,
        allow_plain_http=allow_plain_http,
        timezone=timezone,
    )
    _tell_created(call.call_id, as_json=as_json)


@app.command(epilog="Example: innocalls call status f2281763 --flow F1")
def status(
    call_id: CallId,
    *,
    flow: Flow,
    timezone: Zone = "Africa/Cairo",
    base_url: BaseUrl = None,
    allow_plain_http: PlainHttp = False,
    as_json: Json = False,
) -> None:
    """Print what the service says of a call now. Numbers are masked."""
    answer = _with_client(
        lambda client: client.status(call_id, flow),
        base_url=base_url,
        allow_plain_http=allow_plain_http,
        timezone=timezone,
    )
    _tell_status(answer, as_json=as_json)


@app.command(
    epilog="Example: innocalls call edit f2281763 --flow F1 --first +201123456789 "
    "--first-name Mona --second +201198765432 --second-name Omar --duration 5 "
    '--at "2026-12-01 10:30"'
)
def edit(
    call_id: CallId,
    *,
    flow: Flow,
    first: First,
    first_name: FirstName,
    second: Second,
    second_name: SecondName,
    duration: Minutes,
    at: At,
    timezone: Zone = "Africa/Cairo",
    base_url: BaseUrl = None,
    allow_plain_http: PlainHttp = False,
    as_json: Json = False,
) -> None:
    """Replace a scheduled call. Every field is given anew, as the service demands."""
    request = _request(
        flow=flow,
        first=first,
        first_name=first_name,
        second=second,
        second_name=second_name,
        duration=duration,
        at=at,
        timezone=timezone,
    )
    _with_client(
        lambda client: client.edit(call_id, request),
        base_url=base_url,
        allow_plain_http=allow_plain_http,
        timezone=timezone,
    )
    _tell_done(call_id, "edited", as_json=as_json)


@app.command(epilog="Example: innocalls call delete f2281763")
def delete(
    call_id: CallId,
    *,
    base_url: BaseUrl = None,
    allow_plain_http: PlainHttp = False,
    as_json: Json = False,
) -> None:
    """Take a call off the books."""
    _with_client(
        lambda client: client.delete(call_id),
        base_url=base_url,
        allow_plain_http=allow_plain_http,
    )
    _tell_done(call_id, "deleted", as_json=as_json)


@app.command(epilog="Example: innocalls call wait f2281763 --flow F1 --timeout 600")
def wait(
    call_id: CallId,
    *,
    flow: Flow,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait at most.")] = None,
    interval: Annotated[float, typer.Option(help="Seconds between two polls.")] = 2.0,
    timezone: Zone = "Africa/Cairo",
    base_url: BaseUrl = None,
    allow_plain_http: PlainHttp = False,
    as_json: Json = False,
) -> None:
    """Poll until the call completed, failed or was deleted, and print its status.

    Numbers are masked.
    """
    answer = _with_client(
        lambda client: client.wait(call_id, flow, timeout=timeout, interval=interval),
        base_url=base_url,
        allow_plain_http=allow_plain_http,
        timezone=timezone,
    )
    _tell_status(answer, as_json=as_json)


def _request(
    *,
    flow: str,
    first: str,
    first_name: str,
    second: str,
    second_name: str,
    duration: int,
    at: str | None,
    timezone: str,
) -> api.BridgeRequest:
    with in_options():
        zone = load_zone(timezone)
        time = None if at is None else _read_time(at, zone)
        request = api.BridgeRequest(flow, first, first_name, second, second_name, duration, time)
        if request.call_time is not None:
            wall_time(request.call_time, zone)  # one that comes twice is refused here and now
            if request.call_time < datetime.now(UTC):
                complain(f"Caution: --at {request.call_time.isoformat(' ', 'minutes')} is over")
        return request


def _read_time(text: str, zone: ZoneInfo) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--at: {text!r} is no time such as '2026-04-23 10:30'") from None
    if _is_date(text):
        raise ValueError(f"--at: {text!r} has no time of day; write '{text} 10:30'")
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _with_client(
    operate: Callable[[api.AsyncBridgeClient], Awaitable[Result]], **options: Any
) -> Result:
    token = read_token()
    results: list[Result] = []
    doubts: list[Event] = []

    def hear(event: Event) -> None:
        if isinstance(event, OperationEnded) and event.outcome == "in_doubt":
            doubts.append(event)

    async def work() -> Result:
        with in_options():
            async with api.AsyncBridgeClient(token, on_event=hear, **options) as client:
                results.append(await operate(client))
        return results[0]

    def interrupted() -> Result:
        if not results:  # else only the goodbye was cut short
            fail(_DOUBT if doubts else "interrupted", Exit.IN_DOUBT if doubts else Exit.INTERRUPTED)
        return results[0]

    return run(work, interrupted)


def _tell_created(call_id: str, *, as_json: bool) -> None:
    text = to_json({"call_id": call_id}) if as_json else one_line(f"Scheduled: {call_id}")
    try:
        write_line(text)
    except (OSError, KeyboardInterrupt):
        # Any other exit code might have the call made again.
        is_told = complain(f"scheduled, but it could not be printed: {call_id}")
        raise typer.Exit(Exit.OK if is_told else Exit.IN_DOUBT) from None


def _tell_done(call_id: str, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"call_id": call_id, done: True})
    else:
        print_line(one_line(f"{done.capitalize()}: {call_id}"))


def _tell_status(status: api.CallStatus, *, as_json: bool) -> None:
    facts = attrs.asdict(status, filter=lambda attribute, _: attribute.name != "raw")
    for name, value in facts.items():
        if isinstance(value, str) and (name.endswith("_number") or name == "caller_id"):
            facts[name] = mask_number(value)
    facts["is_final"] = status.is_final
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        print_line(f"{name:24} {'-' if value is None else one_line(str(value))}")
