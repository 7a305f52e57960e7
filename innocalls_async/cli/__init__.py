"""The command line `innocalls`: each command is a thin layer over what Python callers use.

Whatever goes wrong is one line on stderr and an exit code. `main` is the one guard around it all,
so it needs nothing that an extra brings.
"""

from __future__ import annotations

import _thread
import io
import os
import signal
import sys
import threading
import traceback
import unicodedata
from pathlib import Path
from types import FrameType
from typing import Final, TextIO

from innocalls_async.masking import mask_text

__all__ = ["complain", "main", "one_line", "write_error"]

_FAILED: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130
# By the first part of the module's name; `pip` knows the packages under other names.
_EXTRAS: Final = {
    "httptools": "fast",
    "jinja2": "report",
    "matplotlib": "report",
    "phonenumbers": "cli",
    "python_multipart": "sandbox",
    "rich": "cli",
    "starlette": "sandbox",
    "typer": "cli",
    "uvicorn": "sandbox",
}


def main() -> None:
    """Run `innocalls`, as the installed script does."""
    _prepare_streams()
    signal.signal(signal.SIGTERM, _end_as_ctrl_c_does)
    sys.unraisablehook = _interrupt_again
    try:
        from innocalls_async.cli.app import start  # noqa: PLC0415 - an extra

        code = start()
    except SystemExit:  # of rich, when the reader of its help has left
        code = 0
    except (Exception, KeyboardInterrupt) as error:
        code = _explain(error)
    _flush()
    sys.exit(code)


def one_line(text: str) -> str:
    """`text` as a terminal may have it: its whitespace folded, without control characters."""
    folded = " ".join(text.split())
    return "".join(char for char in folded if unicodedata.category(char) != "Cc")


def complain(text: str) -> bool:
    """What is wrong, in one line on stderr; whether it could be written."""
    return write_error(f"innocalls: {text}")


def write_error(text: str) -> bool:
    """One line on stderr; whether it could be written."""
    try:
        sys.stderr.write(f"{one_line(text)}\n")
        sys.stderr.flush()
    except OSError:
        return False
    return True


def _prepare_streams() -> None:
    """No character fails to be written, and a stream that was closed has its number taken, or
    the next file that is opened would get it."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - for good
    sys.stdout = sys.stdout or _unread_pipe(1)
    sys.stderr = sys.stderr or _unread_pipe(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _unread_pipe(number: int) -> TextIO:
    """What was closed is as a pipe whose reader has left: one case less."""
    reader, writer = os.pipe()
    os.dup2(writer, number)
    for other in {reader, writer} - {number}:
        os.close(other)
    return open(number, "w")


def _end_as_ctrl_c_does(_number: int, frame: FrameType | None) -> None:
    # asyncio has a handler of its own for Ctrl-C while it runs, and a shell's background jobs
    # have none.
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Where an interruption happens to meet a finalizer or the like, Python drops it, and what
    somebody stopped would go on and dial. From a thread, because here it would be dropped too."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        threading.Timer(0.01, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(lost)


def _explain(error: BaseException) -> int:
    """Say what happened; the exit code."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case KeyboardInterrupt():
            complain("interrupted")
            return _INTERRUPTED
        case ImportError() if said := _missing(error):
            complain(said)
            return _USAGE
        case OSError():
            complain(str(error))
        case _:
            complain(_bug(error))
    return _FAILED


def _missing(error: ImportError) -> str | None:
    """What to install, if that is what is wrong."""
    if error.name is None:
        return str(error)  # raised by hand, where an extra is asked for
    module = error.name.partition(".")[0]
    if module not in _EXTRAS:
        return None
    return (
        f"{module} is not installed; run: "
        f'python -m pip install "innocalls-async[{_EXTRAS[module]}]"'
    )


def _bug(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"a bug, please report it: {type(error).__name__} in {where}: {mask_text(str(error))}"


def _flush() -> None:
    """The interpreter shall not complain of what it cannot write either."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
