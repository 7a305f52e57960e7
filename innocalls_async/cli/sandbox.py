"""`innocalls sandbox`: the service's stand-in, on a port."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from innocalls_async.cli.common import console, fail

__all__ = ["sandbox"]


class Profile(StrEnum):
    """How the sandbox words its errors."""

    SEED = "seed"
    LARAVEL = "laravel"
    ENVELOPE200 = "envelope200"


def sandbox(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.")] = 8080,
    rate: Annotated[int | None, typer.Option(help="Requests a second that it takes.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=PROBABILITY, again for more: 503, drop, stall, cut, ...; a wrong NAME lists "
            "them all."
        ),
    ] = None,
    profile: Annotated[Profile, typer.Option(help="How errors are worded.")] = Profile.SEED,
    speed: Annotated[float, typer.Option(help="How fast the calls' clock runs.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the faults' dice.")] = 0,
) -> None:
    """Serve the API document on this machine, until Ctrl-C. Any token is taken.

    Example: innocalls sandbox --port 8080 --rate 50 --fault 503=0.05 --fault drop=0.01
    """
    # The server takes longer to import than all the rest of the command line.
    from innocalls_async.sandbox import Sandbox, parse_faults  # noqa: PLC0415

    try:
        service = Sandbox(
            profile=profile.value,
            rate=rate,
            faults=parse_faults(",".join(fault or [])),
            speed=speed,
            seed=seed,
        )
        service.run(host, port, on_ready=_announce)
    except (ValueError, OSError) as error:
        fail(str(error))


def _announce(base_url: str) -> None:
    console.print("The sandbox listens. In another terminal:\n\n  export INNOCALLS_TOKEN=any")
    console.print(f"  export INNOCALLS_BASE_URL={base_url}\n", highlight=False, soft_wrap=True)
