"""A service of its own that keeps books: nothing but the standard library, so that what it says of
a campaign owes nothing to the code under test.

    python campaign_server.py BOOKS [--latency SECONDS] [--status CODE] [--silent COUNT]

prints its port, and appends one line a call that it took to BOOKS, before it answers:
the id, the two numbers and the unix time. Of a call that it knows it says that it completed, and
it takes an edit or a deletion; each deletion is a line in BOOKS.deleted. The first COUNT calls
are taken and never answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
import uuid
from pathlib import Path

_FIELD = re.compile(rb'name="([^"]+)"\r\n\r\n(.*?)\r\n--', re.DOTALL)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


class Service:
    def __init__(self, books: Path, latency: float, status: int, silent: int) -> None:
        self.books = books.open("a", buffering=1, encoding="utf-8")
        self.deleted = books.with_name(books.name + ".deleted").open("a", buffering=1)
        self.latency = latency
        self.status = status
        self.silent = silent
        self.calls: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                body = await reader.readexactly(int(found.group(1)) if found else 0)
                status, reply = await self.answer(head, body)
                data = json.dumps(reply).encode()
                writer.write(
                    b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    % (status, len(data))
                    + data
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, head: bytes, body: bytes) -> tuple[int, dict[str, object]]:
        if self.status != 200:
            return self.status, {"status": self.status, "success": False, "message": "no"}
        if not head.startswith(b"POST "):
            return await self.answer_known(head)
        fields = {name.decode(): value.decode() for name, value in _FIELD.findall(body)}
        call_id = str(uuid.uuid4())
        self.books.write(
            f"{call_id} {fields['first_callee_number']} {fields['second_callee_number']} "
            f"{time.time()}\n"
        )
        self.calls.add(call_id)
        if self.silent:
            self.silent -= 1
            await asyncio.sleep(3600)
        await asyncio.sleep(self.latency)
        return 200, {"status": 200, "success": True, "data": {"call_id": call_id}}

    async def answer_known(self, head: bytes) -> tuple[int, dict[str, object]]:
        method, target = head.decode().split(" ", 2)[:2]
        found = _ID.search(target)
        call_id = found.group() if found else ""
        await asyncio.sleep(self.latency)
        if call_id not in self.calls:
            return 404, {"status": 404, "success": False}
        if method == "DELETE":
            self.deleted.write(f"{call_id}\n")
        status = {"callStatus": "completed", "callId": call_id}
        return 200, {"status": 200, "success": True, "data": {"callStatus": status}}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("books", type=Path)
    parser.add_argument("--latency", type=float, default=0.01)
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--silent", type=int, default=0)
    options = parser.parse_args()
    service = Service(options.books, options.latency, options.status, options.silent)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
