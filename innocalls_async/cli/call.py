"""`innocalls call`: one operation on one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import attrs
import typer

from innocalls_async import AsyncBridgeClient, BridgeRequest, CallStatus
from innocalls_async.cli.common import BaseUrl, Json, console, fail, print_json, read_token, run
from innocalls_async.masking import mask_number
from innocalls_async.times import load_zone, wall_time

__all__ = ["app"]

Result = TypeVar("Result")

app = typer.Typer(no_args_is_help=True, help="Create, read, edit, delete or wait for one call.")

CallId = Annotated[str, typer.Argument(help="The id that `create` printed.")]
Flow = Annotated[str, typer.Option("--flow", help="The call flow's id.")]
First = Annotated[str, typer.Option("--first", help="The first callee's number: +20 112 345 6789.")]
FirstName = Annotated[str, typer.Option("--first-name", help="The first callee's name.")]
Second = Annotated[str, typer.Option("--second", help="The second callee's number.")]
SecondName = Annotated[str, typer.Option("--second-name", help="The second callee's name.")]
Minutes = Annotated[int, typer.Option("--duration", help="Minutes that the call may last.")]
At = Annotated[str, typer.Option("--at", help="When: 2026-04-23 10:30, in --timezone, or ISO.")]
MaybeAt = Annotated[
    str | None, typer.Option("--at", help="When: 2026-04-23 10:30, in --timezone, or ISO. Or now.")
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
    call = _with_client(base_url, timezone, lambda client: client.bridge(request))
    _tell({"call_id": call.call_id}, f"Scheduled: {call.call_id}", as_json=as_json)


@app.command(epilog="Example: innocalls call status f2281763 --flow F1")
def status(
    call_id: CallId,
    *,
    flow: Flow,
    timezone: Zone = "Africa/Cairo",
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Print what the service says of a call now. Numbers are masked."""
    answer = _with_client(base_url, timezone, lambda client: client.status(call_id, flow))
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
    _with_client(base_url, timezone, lambda client: client.edit(call_id, request))
    _tell({"call_id": call_id, "edited": True}, f"Edited: {call_id}", as_json=as_json)


@app.command(epilog="Example: innocalls call delete f2281763")
def delete(call_id: CallId, base_url: BaseUrl = None, as_json: Json = False) -> None:
    """Take a call off the books."""
    _with_client(base_url, "Africa/Cairo", lambda client: client.delete(call_id))
    _tell({"call_id": call_id, "deleted": True}, f"Deleted: {call_id}", as_json=as_json)


@app.command(epilog="Example: innocalls call wait f2281763 --flow F1 --timeout 600")
def wait(
    call_id: CallId,
    *,
    flow: Flow,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait at most.")] = None,
    interval: Annotated[float, typer.Option(help="Seconds between two polls.")] = 2.0,
    timezone: Zone = "Africa/Cairo",
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Poll until the call completed, failed or was deleted, and print its status."""

    def work(client: AsyncBridgeClient) -> Awaitable[CallStatus]:
        return client.wait(call_id, flow, timeout=timeout, interval=interval)

    _tell_status(_with_client(base_url, timezone, work), as_json=as_json)


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
) -> BridgeRequest:
    try:
        time = None if at is None else _read_time(at, timezone)
        return BridgeRequest(flow, first, first_name, second, second_name, duration, time)
    except ValueError as error:
        fail(str(error))


def _read_time(text: str, timezone: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--at: {text!r} is no time such as '2026-04-23 10:30'") from None
    if moment.tzinfo is not None:
        return moment
    moment = moment.replace(tzinfo=load_zone(timezone))
    wall_time(moment, load_zone(timezone))  # one that comes twice is refused here and now
    return moment


def _with_client(
    base_url: str | None,
    timezone: str,
    operate: Callable[[AsyncBridgeClient], Awaitable[Result]],
) -> Result:
    token = read_token()

    async def work() -> Result:
        async with AsyncBridgeClient(token, base_url=base_url, timezone=timezone) as client:
            return await operate(client)

    return run(work)


def _tell(facts: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _tell_status(status: CallStatus, *, as_json: bool) -> None:
    facts = attrs.asdict(status, filter=lambda attribute, _: attribute.name != "raw")
    for name, value in facts.items():
        if isinstance(value, str) and (name.endswith("_number") or name == "caller_id"):
            facts[name] = mask_number(value)
    facts["is_final"] = status.is_final
    shown = "\n".join(f"{name:24} {'-' if v is None else v}" for name, v in facts.items())
    _tell(facts, shown, as_json=as_json)
