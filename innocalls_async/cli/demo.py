"""`innocalls demo`: the main jobs on a fresh machine, against a sandbox that fails."""

from __future__ import annotations

from typing import Annotated

import typer

from innocalls_async.cli.common import Exit, Json, console, fail, print_json, stderr_console

__all__ = ["demo"]


def demo(
    calls: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Calls to schedule in the fan-out.")
    ] = 5_000,
    rows: Annotated[
        int,
        typer.Option(min=1, max=2_000, help="Rows of the list to run the campaign over."),
    ] = 2_000,
    as_json: Json = False,
) -> None:
    """See thousands of calls scheduled, and a campaign that is killed half way and goes on.

    The sandbox takes 500 requests a second and fails on 5 % of them; the campaign is over a messy
    list, and ends in a report. Nothing leaves this machine. What the client says stands beside the
    sandbox's own books.
    """
    # The sandbox's server takes longer to import than all the rest of the command line.
    from innocalls_async.cli.demo_campaign import print_campaign, run_campaign  # noqa: PLC0415
    from innocalls_async.cli.demo_fanout import print_fanout, run_fanout  # noqa: PLC0415

    progress = stderr_console if as_json else console
    try:
        fanout = run_fanout(calls, progress)
        if not as_json:
            print_fanout(fanout)
            console.print()
        campaign = run_campaign(rows, progress)
    except KeyboardInterrupt:
        fail("interrupted", Exit.INTERRUPTED)
    if as_json:
        print_json({"fanout": fanout, "campaign": campaign})
    else:
        print_campaign(campaign)
    if any(account["dialled_twice"] or account["contradicted"] for account in (fanout, campaign)):
        fail("the two accounts do not agree: that is a bug; please report it", Exit.REFUSED)
