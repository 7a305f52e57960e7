"""A file of the user's that is written whole, or left as it was."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from innocalls_async.campaign.errors import CampaignError, DiskError

__all__ = ["replacing"]

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How an SQLite file begins, and the file of what was not brought into it yet.
_SQLITE: Final = (b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A file to write text to, which is at `path` once the block has ended well.

    `CampaignError` if a ledger, or any SQLite file, is there, or if its directory is not;
    `DiskError` if there is no room for it, `OSError` if it cannot be written else.
    """
    try:
        with _writing(path) as file:
            yield file
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DiskError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _writing(path: Path) -> Iterator[IO[str]]:
    if path.exists() and not path.is_file():  # a pipe, or a terminal
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    target = path.resolve()
    if target.exists() and _is_sqlite(target):
        raise CampaignError(f"{path} is a ledger, or another SQLite file; give another name")
    if not target.parent.is_dir():
        raise CampaignError(f"{path} cannot be written: there is no directory {target.parent}")
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            yield file
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16).startswith(_SQLITE)
