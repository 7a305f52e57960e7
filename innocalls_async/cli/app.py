"""The `innocalls` command and what hangs on it."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import innocalls_async
from innocalls_async.cli import complain, demo, sandbox
from innocalls_async.cli.common import Exit

__all__ = ["app", "start"]


class _Groups(TyperGroup):
    """Imports a group of commands when one of them is asked for: half of a start's time."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["call", "campaign", *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in {"call", "campaign"}:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"innocalls_async.cli.{cmd_name}")
        group = typer.main.get_command(module.app)
        group.name = cmd_name
        return group


app = typer.Typer(
    cls=_Groups,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Schedule bridge calls: no person dialled twice, none forgotten, no limit exceeded.",
    epilog=(
        "Example: innocalls demo. "
        "Exit codes: 0 done; 1 failed on this side (no room on the disk, nowhere to print to); "
        "2 bad usage or input; 3 refused by the service; 4 in doubt; 5 stopped (token refused, "
        "service not reached, time ran out); 130 interrupted."
    ),
)
app.command(
    epilog="Example: innocalls sandbox --port 8080 --rate 50 --fault 503=0.05 --fault drop=0.01"
)(sandbox.sandbox)
app.command(epilog="Example: innocalls demo --calls 1000")(demo.demo)


def start() -> int:
    """Carry out what was typed; the exit code."""
    try:
        code = app(prog_name="innocalls", standalone_mode=False)
    except typer.Abort:  # Ctrl-C, or the end of the input, where something was asked for
        raise KeyboardInterrupt from None
    except Exception as error:
        # Typer's own have this. Their classes are click's, or in later versions its own.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        _explain_usage(error, message())
        return Exit.USAGE
    return code if isinstance(code, int) else Exit.OK


def _explain_usage(error: Exception, message: str) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message)
        return
    context = getattr(error, "ctx", None)
    command = "innocalls" if context is None else context.command_path
    complain(f"{message.strip().rstrip('.')}; see '{command} --help'")


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
