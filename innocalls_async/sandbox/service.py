"""From a request to its reply: the throttle, then the faults, then the controller."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from threading import Lock
from urllib.parse import parse_qsl

import attrs

from innocalls_async.sandbox.account import Account
from innocalls_async.sandbox.clock import SandboxClock
from innocalls_async.sandbox.controller import Controller
from innocalls_async.sandbox.exchange import (
    ApplicationError,
    Ending,
    Reply,
    Request,
    html_reply,
    json_reply,
)
from innocalls_async.sandbox.faults import Fault, FaultPlan
from innocalls_async.sandbox.forms import read_fields
from innocalls_async.sandbox.profiles import Profile, success
from innocalls_async.sandbox.routes import Route, find_route
from innocalls_async.sandbox.throttle import Throttle


@attrs.frozen
class Service:
    """The application without its I/O."""

    profile: Profile
    account: Account
    clock: SandboxClock
    throttle: Throttle
    plan: FaultPlan
    controller: Controller
    stall_seconds: float
    late_seconds: float
    latency: float
    # A server's thread answers while a test in another calls `fail_next` or `advance`, and one
    # sandbox may have several ways in. An answer never awaits, so one lock around the whole of
    # it is enough. Reading the account and setting a rule need no lock: each is a single
    # operation on a dict.
    lock: Lock = attrs.field(init=False, factory=Lock)

    def answer(self, request: Request) -> Reply:
        """The one reply to `request`, with all that it changes on the books."""
        with self.lock:
            if request.path.startswith("/sandbox/"):
                return self._administer(request)
            route = find_route(request.method, request.path)
            self.account.operations[route.operation or "other"] += 1
            reply = self._admit(request) or self._serve(request, route)
            self._show_limit(reply)
            if reply.ending is not Ending.DROPPED:
                self.account.statuses[reply.status] += 1
            return reply

    def _admit(self, request: Request) -> Reply | None:
        wait = self.throttle.admit(self.clock.monotonic())
        self.account.highest_window = self.throttle.highest
        if not wait:
            self.account.accepted += 1
            return None
        self.account.rejected += 1
        reply = self.profile.fault_reply(429, request)
        reply.headers["retry-after"] = str(max(1, math.ceil(wait)))
        if self.profile.shows_limit:
            reply.headers["x-ratelimit-reset"] = str(math.ceil(time.time() + wait))
        return reply

    def _show_limit(self, reply: Reply) -> None:
        if self.profile.shows_limit and self.throttle.rate is not None:
            reply.headers["x-ratelimit-limit"] = str(self.throttle.rate)
            reply.headers["x-ratelimit-remaining"] = str(self.throttle.remaining)

    def _serve(self, request: Request, route: Route) -> Reply:
        fault = self.plan.draw(route.operation)
        if fault is None or (fault.name == "late" and route.operation != "create"):
            return self._control(request, route)
        self.account.faults[fault.name] += 1
        late_by = self.late_seconds if fault.name == "late" else 0.0
        reply = Reply(0, b"", {})  # either dropped or replaced below
        if fault.runs:
            reply = self._control(request, route, late_by=late_by)
        return self._spoil(reply, fault, request)

    def _control(self, request: Request, route: Route, *, late_by: float = 0.0) -> Reply:
        try:
            visible_from = self.clock.monotonic() + late_by
            reply = success(self.controller.run(request, route, visible_from=visible_from))
        except ApplicationError as problem:
            reply = self.profile.application_error(problem, request)
            reply.headers.update(problem.headers)
        reply.delay = self.latency
        return reply

    def _spoil(self, reply: Reply, fault: Fault, request: Request) -> Reply:
        if fault.name == "garbage":
            reply = Reply(200, b'{"status": 200, "succ', {"content-type": "application/json"})
        elif fault.name == "html":
            reply = html_reply(200, "Sign in")
        elif fault.status is not None:
            reply = self.profile.fault_reply(fault.status, request)
        if fault.has_retry_after:
            reply.headers["retry-after"] = "1"
        reply.ending = fault.ending
        reply.delay = self.stall_seconds if fault.name == "stall" else self.latency
        return reply

    def _administer(self, request: Request) -> Reply:
        if (request.method, request.path) == ("GET", "/sandbox/account"):
            return json_reply(200, self.account.summary())
        if (request.method, request.path) == ("POST", "/sandbox/advance"):
            return self._advance(request)
        return json_reply(404, {"message": "GET /sandbox/account or POST /sandbox/advance"})

    def _advance(self, request: Request) -> Reply:
        try:
            fields: Mapping[str, str] = {**dict(parse_qsl(request.query)), **read_fields(request)}
            self.clock.advance(float(fields["seconds"]))
        except (ApplicationError, KeyError, ValueError):
            return json_reply(400, {"message": "give seconds, a number from 0 up"})
        return json_reply(200, {"now": self.clock.write(self.clock.now())})
