"""The five operations on the account's calls."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

import attrs

from innocalls_async.sandbox.account import Account, CallRecord
from innocalls_async.sandbox.clock import SandboxClock
from innocalls_async.sandbox.exchange import ApplicationError, Request
from innocalls_async.sandbox.forms import CallForm, check_call, read_fields
from innocalls_async.sandbox.life import ANSWERED, Leg, Rule, follow, read_rule
from innocalls_async.sandbox.profiles import accepts_json, reason
from innocalls_async.sandbox.routes import PREFIX, Route

CALLER_ID = "20235550100"
_IDS = uuid.UUID("f2281763-e58a-4817-bc34-4b120c230cfb")

Data = Mapping[str, object]


@attrs.frozen
class Controller:
    """Carries out one request, or raises the `ApplicationError` that it has."""

    account: Account
    clock: SandboxClock
    rules: Mapping[str, Rule]
    token: str | None
    seed: int
    refuses_other_formats: bool

    def run(self, request: Request, route: Route, *, visible_from: float) -> Data:
        """The `data` of a success; a new call's status shows from `visible_from` on."""
        operation = self._admit(request, route)
        handlers: Mapping[str, Callable[[], Data]] = {
            "authorize": lambda: {"message": "Authorized"},
            "create": lambda: self._create(request, visible_from),
            "status": lambda: self._status(request),
            "edit": lambda: self._edit(request, route.call_id),
            "delete": lambda: self._delete(route.call_id),
        }
        return handlers[operation]()

    def _admit(self, request: Request, route: Route) -> str:
        if not route.methods:
            hint = "" if request.path.startswith(PREFIX) else f"; the base URL ends in {PREFIX}"
            raise ApplicationError(404, f"{reason(404)}{hint}")
        if route.operation is None:
            allowed = ", ".join(route.methods)
            message = f"This method is not supported here. Supported methods: {allowed}."
            raise ApplicationError(405, message, headers={"allow": allowed})
        if self.refuses_other_formats and not accepts_json(request):
            raise ApplicationError(406, reason(406))
        if not self._knows(request.headers.get("authorization", "")):
            raise ApplicationError(401, reason(401))
        return route.operation

    def _knows(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return False
        return self.token is None or token.strip() == self.token

    def _create(self, request: Request, visible_from: float) -> Data:
        form = check_call(read_fields(request))
        call_id = str(uuid.uuid5(_IDS, f"{self.seed}/{self.account.created}"))
        now = self.clock.now()
        self.account.calls[call_id] = CallRecord(
            call_id, form, now, self._start(form, now), visible_from
        )
        return {"call_id": call_id}

    def _edit(self, request: Request, call_id: str) -> Data:
        record = self._find_kept(call_id)
        record.form = check_call(read_fields(request), is_edit=True)
        record.starts_at = self._start(record.form, self.clock.now())
        return {"message": "Call updated successfully"}

    def _delete(self, call_id: str) -> Data:
        self._find_kept(call_id).deleted_at = self.clock.now()
        return {"message": "Call deleted successfully"}

    def _status(self, request: Request) -> Data:
        query = dict(parse_qsl(request.query))
        missing = [name for name in ("call_id", "call_flow_id") if name not in query]
        if missing:
            errors = {n: [f"The {n.replace('_', ' ')} field is required."] for n in missing}
            raise ApplicationError(400, errors[missing[0]][0], errors)
        record = self._find(query["call_id"])
        if record.form.call_flow_id != query["call_flow_id"]:
            raise ApplicationError(404, "Call not found")
        if self.clock.monotonic() < record.visible_from:
            raise ApplicationError(404, "Call not found")
        return {"callStatus": self._describe(record)}

    def _describe(self, record: CallRecord) -> Data:
        # Keys and formats of the document's status sample, in its order.
        form = record.form
        seen_at = self.clock.now() if record.deleted_at is None else record.deleted_at
        elapsed = seen_at - record.starts_at
        first, second = (self._leg(number) for number in record.pair)
        progress = follow(first, second, minutes=form.duration, elapsed=elapsed)
        return {
            "scheduledDateTime": form.call_time or self.clock.write(record.created_at),
            "actualDateTime": self.clock.write(record.starts_at) if elapsed >= 0 else None,
            "callDuration": f"{form.duration} Minutes",
            "callerId": CALLER_ID,
            "firstRecipientName": form.first_callee_name,
            "firstRecipientNumber": form.first_callee_number,
            "firstRecipientStatus": progress.first_leg,
            "secondRecipientName": form.second_callee_name,
            "secondRecipientNumber": form.second_callee_number,
            "secondRecipientStatus": progress.second_leg,
            "callStatus": "deleted" if record.is_deleted else progress.call,
            "callId": record.call_id,
        }

    def _leg(self, number: str) -> Leg:
        return read_rule(self.rules.get(number, ANSWERED))

    def _start(self, form: CallForm, now: float) -> float:
        return now if form.call_time is None else max(now, self.clock.read(form.call_time))

    def _find_kept(self, call_id: str) -> CallRecord:
        record = self._find(call_id)
        if record.is_deleted:
            raise ApplicationError(410, "Call has been deleted")
        return record

    def _find(self, call_id: str) -> CallRecord:
        try:
            return self.account.calls[call_id]
        except KeyError:
            raise ApplicationError(404, "Call not found") from None
