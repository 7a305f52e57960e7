"""What tests of a program that uses this library need: a client that waits for nothing, the
sandbox's books to look at, and the document's replies for respx.

The fixtures `innocalls_sandbox`, `innocalls_client`, `innocalls_server` and `innocalls_router`
are there as soon as the package is installed; see `innocalls_async.pytest_plugin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import httpx
from attrs import field, frozen

from innocalls_async.client import AsyncBridgeClient
from innocalls_async.masking import mask_number
from innocalls_async.models import BridgeRequest
from innocalls_async.retry import RetryPolicy
from innocalls_async.times import wall_time
from innocalls_async.wire import DEFAULT_BASE_URL

if TYPE_CHECKING:
    import respx

    from innocalls_async.sandbox import CallForm, CallRecord, Sandbox

__all__ = [
    "NO_WAITING",
    "TEST_TOKEN",
    "SandboxServer",
    "assert_nobody_twice",
    "assert_nothing_scheduled",
    "assert_scheduled",
    "document_router",
    "sandbox_client",
]

NO_WAITING: Final = RetryPolicy(initial=0.0)
"""Retries as usual, without pauses between them. A Retry-After is still kept to."""

TEST_TOKEN: Final = "test-token"  # noqa: S105 - opens nothing


@frozen
class SandboxServer:
    """A sandbox on a port. `base_url` and `token` are what a client of it is made with."""

    sandbox: Sandbox
    base_url: str
    token: str = field(default=TEST_TOKEN, repr=False)


def sandbox_client(sandbox: Sandbox, **options: Any) -> AsyncBridgeClient:
    """A client on `sandbox`, in process. Unless `options` say otherwise it has no limiter and
    retries without waiting; where the sandbox asks for a wait, it asks for none."""
    given = {"limiter": None, "retry": NO_WAITING, "timezone": sandbox.timezone} | options
    token = given.pop("token", sandbox.token or TEST_TOKEN)
    return AsyncBridgeClient(token, transport=_Hurried(sandbox.transport()), **given)


class _Hurried(httpx.AsyncBaseTransport):
    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        if "retry-after" in response.headers:
            response.headers["retry-after"] = "0"
        return response


def assert_scheduled(sandbox: Sandbox, request: BridgeRequest, *, times: int = 1) -> None:
    """Fail unless just `times` calls on the sandbox's books, deleted ones left out, are what
    `request` asks for, field by field."""
    wanted = _form(request, ZoneInfo(sandbox.timezone))
    kept = _kept(sandbox)
    if (found := sum(record.form == wanted for record in kept)) != times:
        raise AssertionError(
            f"{found} calls on the books are what was asked for, not {times}\n"
            f"  asked for: {_told(wanted)}\n" + _listed(kept)
        )


def assert_nothing_scheduled(sandbox: Sandbox) -> None:
    """Fail if any call is on the sandbox's books, deleted ones left out."""
    if kept := _kept(sandbox):
        raise AssertionError(f"{len(kept)} calls are on the books, not 0\n{_listed(kept)}")


def assert_nobody_twice(sandbox: Sandbox) -> None:
    """Fail if any pair of callees has two calls on the sandbox's books; one that was deleted
    before it rang does not count."""
    if pairs := sandbox.account.dialled_twice:
        shown = "\n".join("  " + " and ".join(map(mask_number, pair)) for pair in pairs)
        raise AssertionError(f"{len(pairs)} pairs would be dialled twice:\n{shown}")


def document_router(base_url: str = DEFAULT_BASE_URL) -> respx.MockRouter:
    """A respx router with the API document's sample replies on the routes `authorize`, `create`,
    `status`, `edit` and `delete`: `router["create"].mock(...)` changes one of them.

    Use it as a context manager. ImportError where respx is not installed.
    """
    try:
        import respx  # noqa: PLC0415 - a choice of the tests'
    except ImportError as error:
        error.add_note("the router of the document's replies needs respx: pip install respx")
        raise

    router = respx.MockRouter(base_url=base_url, assert_all_called=False)
    call = r"/call/bridge/[^/]+$"
    router.get("/", name="authorize").respond(json=_success({}))
    router.post("/call/bridge", name="create").respond(json=_success({"call_id": _CALL_ID}))
    router.get("/call/status", name="status").respond(json=_success({"callStatus": _STATUS}))
    router.put(path__regex=call, name="edit").respond(json=_message("updated"))
    router.delete(path__regex=call, name="delete").respond(json=_message("deleted"))
    return router


# The document's sample replies, word for word.
_CALL_ID: Final = "f2281763-e58a-4817-bc34-4b120c230cfbas"
_STATUS: Final = {
    "scheduledDateTime": "2020-04-23 10:31:47",
    "actualDateTime": "2020-04-23 10:31:47",
    "callDuration": "5 Minutes",
    "callerId": "XXXXXXX",
    "firstRecipientName": "ahmed",
    "firstRecipientNumber": "2010XXXXX",
    "firstRecipientStatus": "answered",
    "secondRecipientName": "kand",
    "secondRecipientNumber": "13456",
    "secondRecipientStatus": "not_answered",
    "callStatus": "failed",
    "callId": _CALL_ID,
}


def _success(data: dict[str, Any]) -> dict[str, Any]:
    return {"status": 200, "success": True, "data": data}


def _message(done: str) -> dict[str, Any]:
    return _success({"message": f"Call {done} successfully"})


def _kept(sandbox: Sandbox) -> list[CallRecord]:
    return [record for record in tuple(sandbox.account.calls.values()) if not record.is_deleted]


def _form(request: BridgeRequest, zone: ZoneInfo) -> CallForm:
    from innocalls_async.sandbox import CallForm  # noqa: PLC0415 - an extra

    return CallForm(
        call_flow_id=request.call_flow_id,
        first_callee_number=request.first_callee_number,
        first_callee_name=request.first_callee_name.strip(),
        second_callee_number=request.second_callee_number,
        second_callee_name=request.second_callee_name.strip(),
        duration=request.duration,
        call_time=None if request.call_time is None else wall_time(request.call_time, zone),
    )


def _listed(records: list[CallRecord]) -> str:
    if not records:
        return "  the books are empty"
    return "\n".join(f"  on the books: {_told(record.form)}" for record in records[:10])


def _told(form: CallForm) -> str:
    first, second = map(mask_number, form.pair)
    return (
        f"flow {form.call_flow_id}, {form.first_callee_name} {first} with "
        f"{form.second_callee_name} {second}, {form.duration} min, {form.call_time or 'now'}"
    )
