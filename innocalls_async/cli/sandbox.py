"""`innocalls sandbox`: the service's stand-in, on a port."""

from __future__ import annotations

import errno
from typing import Annotated, Any, cast

import typer

from innocalls_async.cli.common import fail, print_json, print_line

__all__ = ["sandbox"]


def sandbox(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 for any free one.")
    ] = 8080,
    rate: Annotated[int | None, typer.Option(help="Requests a second that it takes.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=PROBABILITY, again for more: 503, drop, stall, cut, ...; a wrong NAME lists "
            "them all."
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="How errors are worded: seed, laravel or envelope200.")
    ] = "seed",
    speed: Annotated[float, typer.Option(help="How fast the calls' clock runs.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the faults' dice.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Announce the addresses in one line of JSON.")
    ] = False,
) -> None:
    """Serve the API document on this machine, until Ctrl-C. Any token is taken.

    GET /sandbox/account tells what really happened: the calls, the requests, who is dialled twice.
    POST /sandbox/advance?seconds=60 moves the clock that calls live on.
    """
    # The server takes longer to import than all the rest of the command line.
    from innocalls_async.sandbox import Sandbox, parse_faults  # noqa: PLC0415

    try:
        service = Sandbox(
            profile=cast("Any", profile),  # it refuses an unknown one itself
            rate=rate,
            faults=parse_faults(",".join(fault or [])),
            speed=speed,
            seed=seed,
        )
        service.run(host, port, on_ready=_announce_json if as_json else _announce)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fail(f"port {port} is in use; choose another --port, or --port 0 for any free one")
        fail(str(error))
    except ValueError as error:
        fail(str(error))


def _announce(base_url: str) -> None:
    account, advance = _beside(base_url)
    for line in (
        "The sandbox listens. In another terminal:\n",
        "  export INNOCALLS_TOKEN=any",
        f"  export INNOCALLS_BASE_URL={base_url}\n",
        "What really happened, and a minute later for the calls:\n",
        f"  curl {account}",
        f'  curl -X POST "{advance}?seconds=60"\n',
    ):
        print_line(line)


def _announce_json(base_url: str) -> None:
    account, _ = _beside(base_url)
    print_json({"base_url": base_url, "account": account})


def _beside(base_url: str) -> tuple[str, str]:
    """The addresses of the account and of the clock."""
    origin = base_url.removesuffix("/api/v1")
    return f"{origin}/sandbox/account", f"{origin}/sandbox/advance"
