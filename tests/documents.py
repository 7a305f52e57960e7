"""Carries out what a Markdown document shows, as its reader would.

The convention, in the document's order:

- A `python` block is executed. All of a document share one namespace and one event loop, and
  `await` may stand at the top level, as in `python -m asyncio`.
- A `text` block right after it is what it printed.
- In a `console` block each line after `$ ` is a command for bash that must succeed, and the lines
  below are what it printed. Where none are shown, nothing is compared. A server is left running
  until the document ends; an installation is not carried out, but what it names must exist.
- A block under words that end in "Save this as `NAME`:" becomes that file, and is not executed.
- `...` stands for what differs from run to run; ports are replaced by free ones.
- Fences with a `{directive}` are Sphinx's. Any other language is an error: nothing is unchecked.

It all runs in an empty directory, with `INNOCALLS_TOKEN` and `INNOCALLS_BASE_URL` set to a sandbox
whose calls live 600 times as fast.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib.metadata
import inspect
import io
import os
import random
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

from anyio.from_thread import start_blocking_portal
from attrs import define, field, frozen
from markdown_it import MarkdownIt

from innocalls_async.sandbox import Sandbox

__all__ = ["Block", "read_blocks", "run_document"]

SPEED: Final = 600
SECONDS: Final = 50
_SERVERS: Final = ("innocalls sandbox", "uvicorn ")
_PORT: Final = re.compile(r"(?<=[: ])80[08]0\b")
_NAMED: Final = re.compile(r"[Ss]ave\sthis\sas\s`([^`]+)`:$")
_INSTALL: Final = re.compile(r"python -m pip install ([^&]+?)(?: && (.+))?")
_EXPORT: Final = re.compile(r"export (\w+)=(.*)")
_PROJECT: Final = Path(__file__).parent.parent / "pyproject.toml"


@frozen
class Block:
    """A fenced block. `file` is the name to save it under; `follows` whether the fence before
    it was directly above, with no words between."""

    language: str
    text: str
    line: int
    file: str | None
    follows: bool


def read_blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a document, in its order, without Sphinx's directives."""
    words, follows = "", False
    for token in MarkdownIt().parse(path.read_text("utf-8")):
        if token.type == "inline":
            words, follows = token.content, False
        elif token.type == "fence" and not token.info.startswith("{"):
            assert token.map is not None
            found = _NAMED.search(words)
            file = found[1] if found else None
            yield Block(token.info.strip(), token.content, token.map[0] + 1, file, follows)
            words, follows = "", True


def run_document(path: Path, directory: Path) -> None:
    """Carry out the blocks of `path` in the empty `directory`; AssertionError where one does not
    do what is shown."""
    with contextlib.ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        sandbox = Sandbox(speed=SPEED).serve()
        base_url = stack.enter_context(portal.wrap_async_context_manager(sandbox))
        stack.enter_context(mock.patch.dict(os.environ, _environment(base_url)))
        stack.enter_context(contextlib.chdir(directory))
        _Reader(path, stack, stack.enter_context(asyncio.Runner())).read()


def _environment(base_url: str) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return {
        "INNOCALLS_TOKEN": "any",
        "INNOCALLS_BASE_URL": base_url,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }


@define
class _Reader:
    """Somebody who types in what the document at `path` shows."""

    path: Path
    stack: contextlib.ExitStack
    runner: asyncio.Runner
    namespace: dict[str, Any] = field(factory=lambda: {"__name__": "__main__"})
    ports: dict[str, str] = field(factory=dict)
    printed: str = ""

    def read(self) -> None:
        for block in read_blocks(self.path):
            text = _PORT.sub(self._port, block.text)
            if block.file is not None:
                Path(block.file).write_text(text, "utf-8")
                continue
            match block.language:
                case "python":
                    self._execute(text, block.line)
                case "console":
                    self._type(text, block.line)
                case "text":
                    assert block.follows, f"{self.path}:{block.line}: no block above prints this"
                    self._compare(text, self.printed, block.line)
                case language:
                    raise AssertionError(f"{self.path}:{block.line}: {language!r} is not checked")

    def _port(self, found: re.Match[str]) -> str:
        if found[0] not in self.ports:
            self.ports[found[0]] = _free_port()
        return self.ports[found[0]]

    def _execute(self, text: str, line: int) -> None:
        source = "\n" * line + text  # so that a traceback has the document's line
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, str(self.path), "exec", flags=flags, dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            result = types.FunctionType(code, self.namespace)()
            if inspect.iscoroutine(result):
                self.runner.run(result)
        self.printed = output.getvalue()

    def _type(self, text: str, line: int) -> None:
        commands = re.split(r"^\$ ", text, flags=re.MULTILINE)
        assert not commands[0], f"{self.path}:{line}: a console block begins with `$ `"
        for entry in commands[1:]:
            command, shown = _split(entry)
            if found := _INSTALL.fullmatch(command):
                _check_installable(found[1])
                command = found[2] or "true"
            if found := _EXPORT.fullmatch(command):
                os.environ[found[1]] = shlex.split(found[2])[0]
            elif command.startswith(_SERVERS):
                self._serve(command, shown, line)
            else:
                output = self._run(command, line)
                if shown.strip():
                    self._compare(shown, output, line)

    def _run(self, command: str, line: int) -> str:
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        output = done.stdout.decode()
        place = f"{self.path}:{line}: {command}"
        assert done.returncode == 0, f"{place}: exit code {done.returncode}\n{output}"
        return output

    def _serve(self, command: str, shown: str, line: int) -> None:
        log = Path(f"server-{line}.log")
        with log.open("wb") as output:
            server = subprocess.Popen(
                ["/bin/bash", "-c", f"exec {command}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.stack.callback(server.wait)
        self.stack.callback(server.terminate)
        until = time.monotonic() + SECONDS
        while not _matches(shown, log.read_text("utf-8")):
            assert server.poll() is None, f"{self.path}:{line}: {log.read_text('utf-8')}"
            if time.monotonic() > until:
                self._compare(shown, log.read_text("utf-8"), line)
            time.sleep(0.05)

    def _compare(self, shown: str, printed: str, line: int) -> None:
        if not _matches(shown, printed):
            raise AssertionError(
                f"{self.path}:{line}: the document shows\n{shown}\nand this was printed\n{printed}"
            )


def _free_port() -> str:
    """A port that stays free until it is used: below those that systems give out by themselves."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)


def _split(entry: str) -> tuple[str, str]:
    """A command, its continued lines joined, and what is shown below it."""
    lines = entry.splitlines(keepends=True)
    command = lines.pop(0)
    while command.endswith("\\\n"):
        command = command[:-2] + lines.pop(0)
    return command.strip(), "".join(lines)


def _matches(shown: str, printed: str) -> bool:
    checker = doctest.OutputChecker()
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.DONT_ACCEPT_BLANKLINE
    return checker.check_output(shown, printed, options)


def _check_installable(arguments: str) -> None:
    project = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]
    for requirement in shlex.split(arguments.removeprefix("-e ")):
        name, _, extras = requirement.rstrip("]").partition("[")
        if name not in {project["name"], "."}:
            importlib.metadata.distribution(name)
            continue
        unknown = set(filter(None, extras.split(","))) - project["optional-dependencies"].keys()
        assert not unknown, f"{requirement}: there is no extra {', '.join(unknown)}"
