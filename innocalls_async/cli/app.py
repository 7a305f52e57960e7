"""The `innocalls` command and what hangs on it."""

from __future__ import annotations

from typing import Annotated

import typer

import innocalls_async
from innocalls_async.cli import call, campaign, demo, sandbox

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Schedule bridge calls: no person dialled twice, none forgotten, no limit exceeded.",
    epilog=(
        "Exit codes: 0 done; 2 bad usage or input; 3 refused by the service; 4 in doubt; "
        "5 stopped (token refused, service not reached, time ran out); 130 interrupted."
    ),
)
app.add_typer(call.app, name="call")
app.add_typer(campaign.app, name="campaign")
app.command()(sandbox.sandbox)
app.command()(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"innocalls-async {innocalls_async.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it and exit."
        ),
    ] = False,
) -> None:
    """The token is read from INNOCALLS_TOKEN, or asked for."""
