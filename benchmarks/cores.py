"""Which processor the client runs on, and which the server: two that never share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CLIENT", "SERVER", "pinned"]


def _allowed() -> list[int]:
    # macOS and Windows cannot pin; there everything runs where the system puts it.
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


CLIENT, SERVER = _allowed()[0], _allowed()[-1]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started inside inherits `core`, with everything that it starts."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
