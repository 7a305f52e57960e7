"""What the commands share: where they print, how they find the service, how they end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import Annotated, Any, NoReturn, TypeVar

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

__all__ = [
    "BaseUrl",
    "Exit",
    "Json",
    "console",
    "fail",
    "print_json",
    "read_token",
    "run",
]

Result = TypeVar("Result")

console = Console()
_errors = Console(stderr=True, soft_wrap=True, highlight=False)

BaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="INNOCALLS_BASE_URL",
        help="Address of the service; by default the real one.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
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
    return str(typer.prompt("Token", hide_input=True))


def fail(message: str, code: Exit = Exit.USAGE) -> NoReturn:
    """End with one line on stderr."""
    _errors.print(f"innocalls: {message}", markup=False)
    raise typer.Exit(code)


def print_json(value: Mapping[str, Any]) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def run(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run `work` in an event loop; what goes wrong is one line and an exit code."""
    try:
        return anyio.run(work)
    except KeyboardInterrupt:
        fail("interrupted", Exit.INTERRUPTED)
    except InnoCallsError as error:
        fail(str(error), _code_of(error))
    except (ValueError, TypeError, OSError) as error:
        fail(str(error))


def _code_of(error: InnoCallsError) -> Exit:
    if isinstance(error, OutcomeUnknownError):
        return Exit.IN_DOUBT
    stopping = AuthenticationError | PermissionDeniedError | NotSentError | DeadlineExceededError
    return Exit.STOPPED if isinstance(error, stopping) else Exit.REFUSED
