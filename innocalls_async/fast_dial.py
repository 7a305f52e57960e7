"""Connecting to a host that may have several addresses, some of them dead (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any, Final, TypeAlias

__all__ = ["dial"]

_Address: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]

# RFC 8305's "Connection Attempt Delay".
_NEXT_ADDRESS_AFTER: Final = 0.25


async def dial(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """The first connection to any address of `host`, each tried a little after the one before.

    asyncio's own happy eyeballs lose a connected socket if they are cancelled at the wrong moment
    (seen in 3.11), and uvloop has none.
    """
    waiting = _alternating(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    pending: set[asyncio.Task[socket.socket]] = set()
    error: BaseException | None = None
    try:
        while waiting or pending:
            if waiting:
                pending.add(loop.create_task(_connect_socket(loop, waiting.popleft())))
            done, _ = await asyncio.wait(
                pending,
                timeout=_NEXT_ADDRESS_AFTER if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                pending.discard(task)
                if (error := task.exception()) is None:
                    return task.result()
        raise error or OSError("the host has no address")
    finally:
        for task in pending:
            task.add_done_callback(_close_socket)
            task.cancel()


def _alternating(found: Iterable[_Address]) -> deque[_Address]:
    """The addresses with their families taking turns (RFC 8305, 4), the system's first first."""
    families: dict[int, list[_Address]] = {}
    for address in found:
        families.setdefault(address[0], []).append(address)
    turns = zip_longest(*families.values())
    return deque(address for turn in turns for address in turn if address is not None)


async def _connect_socket(loop: asyncio.AbstractEventLoop, address: _Address) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_socket(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
