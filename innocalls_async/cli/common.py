"""What the commands share: where they print, how they find the service, how they end."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Annotated, Any, Final, NoReturn, TypeVar

import anyio
import typer
from rich.console import Console

from innocalls_async import (
    AuthenticationError,
    DeadlineExceededError,
    InnoCallsError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
)
from innocalls_async.cli import complain

__all__ = [
    "BaseUrl",
    "Exit",
    "Json",
    "PlainHttp",
    "console",
    "count",
    "fail",
    "in_options",
    "print_json",
    "print_line",
    "read_token",
    "run",
    "stderr_console",
    "to_json",
    "write_line",
]

Result = TypeVar("Result")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read this has enough. The work goes on; rich itself would end the program."""
        self.quiet = True


console = _Console()
stderr_console = _Console(stderr=True)

BaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="INNOCALLS_BASE_URL",
        help="Address of the service; by default the real one.",
        show_default=False,
    ),
]
PlainHttp = Annotated[
    bool,
    typer.Option(
        "--allow-plain-http", help="Take an http:// address, which shows the token to the network."
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON for machines: times and durations in ISO 8601."),
]

# What a person typed, by the name that the library has for it.
_OPTIONS: Final = {
    "call_flow_id": "--flow",
    "first_callee_number": "--first",
    "first_callee_name": "--first-name",
    "second_callee_number": "--second",
    "second_callee_name": "--second-name",
    "duration": "--duration",
    "call_time": "--at",
    "timezone": "--timezone",
    "base_url": "--base-url",
    "allow_plain_http": "--allow-plain-http",
}
_NAME: Final = re.compile(rf"\b({'|'.join(_OPTIONS)})\b(=True)?")


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    IN_DOUBT = 4
    STOPPED = 5
    INTERRUPTED = 130


def read_token() -> str:
    """The token from the environment or a prompt; never an argument, which others could see."""
    token = os.environ.get("INNOCALLS_TOKEN")
    if token:
        return token
    if not sys.stdin.isatty():
        fail("no token: set INNOCALLS_TOKEN, or run this in a terminal to be asked for it")
    return str(typer.prompt("Token", hide_input=True, err=True))


def count(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def fail(message: str, code: Exit = Exit.USAGE) -> NoReturn:
    """End with one line on stderr."""
    complain(message)
    raise typer.Exit(code)


@contextmanager
def in_options() -> Iterator[None]:
    """What is wrong with a value names the option that it was given in."""
    try:
        yield
    except ValueError as error:
        fail(_NAME.sub(_option, str(error)))


def _option(found: re.Match[str]) -> str:
    option = _OPTIONS[found[1]]
    return option if found[2] else f"{option} ({found[1]})"


def print_json(value: Mapping[str, Any]) -> None:
    """One line of JSON on stdout."""
    print_line(to_json(value))


def print_line(text: str) -> None:
    """One line on stdout. That nobody reads it any more is no error."""
    with suppress(BrokenPipeError):
        write_line(text)


def write_line(text: str) -> None:
    """One line on stdout, on its way when this returns. OSError if it cannot be written."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        said = f"standard output cannot be written: {error.strerror}"
        raise OSError(error.errno, said) from None


def to_json(value: Mapping[str, Any]) -> str:
    """`value` as one line of JSON, in ASCII, which every pipe can carry."""
    return json.dumps(value, default=_to_text)


def _to_text(value: object) -> str:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return _iso_duration(value)
        case _:
            return str(value)


def _iso_duration(duration: timedelta) -> str:
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "H"), (minutes, "M"), (seconds + duration.microseconds / 1e6, "S"))
    days = f"{duration.days}D" if duration.days else ""
    time = "".join(f"{count:g}{unit}" for count, unit in parts if count)
    return f"P{days}T{time}" if time else f"P{days or 'T0S'}"


def run(
    work: Callable[[], Awaitable[Result]], interrupted: Callable[[], Result] | None = None
) -> Result:
    """Run `work` in an event loop; what goes wrong is one line and an exit code.

    `interrupted` says what came of it when Ctrl-C ended it.
    """
    try:
        return anyio.run(work)
    except KeyboardInterrupt:
        if interrupted is not None:
            return interrupted()
        fail("interrupted", Exit.INTERRUPTED)
    except InnoCallsError as error:
        fail(str(error), _code_of(error))
    except (ValueError, TypeError) as error:
        fail(str(error))


def _code_of(error: InnoCallsError) -> Exit:
    if isinstance(error, OutcomeUnknownError):
        return Exit.IN_DOUBT
    stopping = AuthenticationError | PermissionDeniedError | NotSentError | DeadlineExceededError
    return Exit.STOPPED if isinstance(error, stopping) else Exit.REFUSED
