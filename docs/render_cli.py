"""Writes `reference/cli.md`: the help of every command, as it prints it.

python docs/render_cli.py             writes the page
python docs/render_cli.py --check     fails if it is not what would be written
"""

from __future__ import annotations

import difflib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

WIDTH: Final = "80"
# Read when rich and typer are imported; colours and links have no place on the page.
os.environ |= {"TERMINAL_WIDTH": WIDTH, "COLUMNS": WIDTH, "NO_COLOR": "1", "TERM": "dumb"}

import typer  # noqa: E402
from typer.core import TyperGroup  # noqa: E402

from innocalls_async.cli.app import app  # noqa: E402

PAGE: Final = Path(__file__).parent / "reference" / "cli.md"
INTRODUCTION: Final = """\
# The command line

This page is what each command prints for `--help`. It is written by
`python docs/render_cli.py`, and a test holds it against the commands.

- What goes wrong is one line on stderr, and an exit code.
- With `--json` nothing but JSON is on stdout. Times and durations in it are ISO 8601.
- Numbers are masked but for their last three digits, in JSON too; only `campaign export`, and
  `campaign report` if it is asked to, have them whole.
- That the reader of a pipe has left is no error. What cannot be written for another reason is
  exit code 1; but of a call that was created the id is then on stderr, and the exit code 0, so that
  nothing has a reason to create it again.
"""


def main() -> None:
    """Write the page, or with `--check` say how it differs from what would be written."""
    page = "\n".join([INTRODUCTION, *_sections()])
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(page, "utf-8")
        return
    written = PAGE.read_text("utf-8") if PAGE.exists() else ""
    if written != page:
        old, new = (text.splitlines(keepends=True) for text in (written, page))
        sys.stdout.writelines(difflib.unified_diff(old, new, PAGE.name, "the commands"))
        sys.exit("the commands' help has changed: run `python docs/render_cli.py`")


def _sections() -> Iterator[str]:
    for words in _commands(typer.main.get_command(app), ("innocalls",)):
        yield f"## {' '.join(words)}\n\n```text\n{_help(words)}\n```\n"


def _commands(command: object, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from _commands(command.get_command(context, name), (*words, name))


def _help(words: tuple[str, ...]) -> str:
    program, *arguments = words
    with redirect_stdout(io.StringIO()) as output:
        app([*arguments, "--help"], prog_name=program, standalone_mode=False)
    return "\n".join(line.rstrip() for line in output.getvalue().strip().splitlines())


if __name__ == "__main__":
    main()
