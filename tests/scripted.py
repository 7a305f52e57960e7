"""What tests of the core share: a request, the document's replies, and a transport that plays a
script."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import anyio
import httpx
from attrs import define, field

from innocalls_async import AsyncBridgeClient, BridgeRequest

__all__ = [
    "FIRST",
    "SECOND",
    "TOKEN",
    "Script",
    "Step",
    "a_client",
    "a_request",
    "created",
    "reply",
    "requests",
    "status_reply",
]

TOKEN = "ds76sd76-canary"
FIRST = "201123456789"
SECOND = "966512345678"


def a_request(**changes: Any) -> BridgeRequest:
    """A request that is right, but for `changes`."""
    fields: dict[str, Any] = {
        "call_flow_id": "5f0c1d2e3a4b5c6d7e8f9a0b",
        "first_callee_number": FIRST,
        "first_callee_name": "Ahmed",
        "second_callee_number": SECOND,
        "second_callee_name": "منى",
        "duration": 2,
    }
    return BridgeRequest(**(fields | changes))


def requests(count: int) -> list[BridgeRequest]:
    """So many requests, each to a number of its own."""
    return [a_request(first_callee_number=str(20_100_000_000 + index)) for index in range(count)]


def reply(
    status: int = 200, body: object = None, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(
        status, headers={"Content-Type": "application/json", **(headers or {})}, content=content
    )


def created(call_id: str = "id-1", headers: Mapping[str, str] | None = None) -> httpx.Response:
    """The document's reply to a create."""
    return reply(200, {"status": 200, "success": True, "data": {"call_id": call_id}}, headers)


def status_reply(word: str, **fields: object) -> httpx.Response:
    """The document's reply to a status, of which only `callStatus` and `fields` are given."""
    status = {"callStatus": word, **fields}
    return reply(200, {"status": 200, "success": True, "data": {"callStatus": status}})


Step: TypeAlias = (
    httpx.Response | Exception | Callable[[httpx.Request], Awaitable[httpx.Response]] | float
)


@define(eq=False)
class Script(httpx.AsyncBaseTransport):
    """A transport whose n-th request meets the n-th step, and all that follow the last one.

    A step is a response, an exception to raise, a function of the request, or so many seconds of
    silence before a success. `requests` are those that came, `times` when; `under_way` how many
    are being answered, `most` the most that ever were.
    """

    steps: list[Step] = field(factory=list)
    requests: list[httpx.Request] = field(factory=list)
    times: list[float] = field(factory=list)
    under_way: int = 0
    most: int = 0
    is_closed: bool = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        step = self.steps[min(len(self.requests), len(self.steps) - 1)]
        self.requests.append(request)
        call_id = f"id-{len(self.requests)}"
        self.times.append(anyio.current_time())
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self._play(step, request, call_id)
        finally:
            self.under_way -= 1

    async def _play(self, step: Step, request: httpx.Request, call_id: str) -> httpx.Response:
        if isinstance(step, Exception):
            raise step
        if isinstance(step, int | float):
            await anyio.sleep(step)
            return created(call_id)
        if isinstance(step, httpx.Response):
            return httpx.Response(step.status_code, headers=step.headers, content=step.content)
        return await step(request)

    async def aclose(self) -> None:
        self.is_closed = True


def a_client(*steps: Step, **options: Any) -> tuple[AsyncBridgeClient, Script]:
    """A client over a script of `steps`, without a limit of its own unless told."""
    script = Script(list(steps) or [created()])
    options = {"limiter": None, "transport": script, **options}
    return AsyncBridgeClient(TOKEN, **options), script
