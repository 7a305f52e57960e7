"""The sandbox and the three ways to reach it."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime

import attrs
import httpx
from starlette.applications import Starlette

from innocalls_async.sandbox import server
from innocalls_async.sandbox.account import Account
from innocalls_async.sandbox.asgi import build_app
from innocalls_async.sandbox.clock import SandboxClock
from innocalls_async.sandbox.controller import Controller
from innocalls_async.sandbox.faults import FaultPlan, check_faults, check_script
from innocalls_async.sandbox.life import Rule, Rules
from innocalls_async.sandbox.options import (
    check_period,
    check_rate,
    check_seconds,
    find_profile,
)
from innocalls_async.sandbox.profiles import ProfileName
from innocalls_async.sandbox.service import Service
from innocalls_async.sandbox.throttle import Throttle
from innocalls_async.sandbox.transport import SandboxTransport
from innocalls_async.times import load_zone


@attrs.frozen(kw_only=True, eq=False)
class Sandbox:
    """A service that follows the API document, with a truthful account of what reached it.

    `profile` words the errors: `seed` as the document does, `laravel` as a stock Laravel does,
    `envelope200` in an HTTP 200 with `success` false. `token` None accepts any bearer token.
    At most `rate` requests pass in any window of `per` seconds of `clock`; None sets no limit.

    `faults` maps names of `FAULTS` to probabilities, drawn from `seed`; `script` names the
    faults of the first requests in their order, None for a request that meets none. A `stall`
    answers after `stall_seconds`, and every other reply after `latency`; the status of a call
    whose create was `late` is a 404 for `late_seconds`. These three are seconds of real time.

    Calls live on a clock that runs `speed` times as fast as `clock`, in the zone `timezone`.
    `rules` says how a number, given as people write it, takes a ring: a leg state, or one for
    each try. A word that the document does not know is taken, too. Other numbers answer.

    Raises `ValueError` for an option that makes no sense.
    """

    profile: ProfileName = "seed"
    token: str | None = attrs.field(default=None, repr=False)
    rate: int | None = attrs.field(default=None, validator=check_rate)
    per: float = attrs.field(default=1.0, validator=check_period)
    faults: Mapping[str, float] = attrs.field(factory=dict, converter=check_faults)
    script: tuple[str | None, ...] = attrs.field(default=(), converter=check_script, repr=False)
    seed: int = 0
    speed: float = attrs.field(default=1.0, validator=check_seconds)
    timezone: str = "Africa/Cairo"
    clock: Callable[[], float] = attrs.field(default=time.monotonic, repr=False)
    rules: MutableMapping[str, Rule] = attrs.field(factory=dict, converter=Rules, repr=False)
    stall_seconds: float = attrs.field(default=60.0, validator=check_seconds)
    late_seconds: float = attrs.field(default=1.0, validator=check_seconds)
    latency: float = attrs.field(default=0.0, validator=check_seconds)
    account: Account = attrs.field(init=False, factory=Account, repr=False)
    _service: Service = attrs.field(
        init=False, repr=False, default=attrs.Factory(lambda self: self._build(), takes_self=True)
    )

    def _build(self) -> Service:
        clock = SandboxClock(load_zone(self.timezone), self.clock, self.speed)
        chance = random.Random(self.seed)  # noqa: S311 - repeatable, not secret
        profile = find_profile(self.profile)
        return Service(
            profile=profile,
            account=self.account,
            clock=clock,
            throttle=Throttle(self.rate, self.per),
            plan=FaultPlan(self.faults, deque(self.script), chance),
            controller=Controller(
                account=self.account,
                clock=clock,
                rules=self.rules,
                token=self.token,
                seed=self.seed,
                refuses_other_formats=profile.refuses_other_formats,
            ),
            stall_seconds=self.stall_seconds,
            late_seconds=self.late_seconds,
            latency=self.latency,
        )

    @property
    def now(self) -> datetime:
        """The sandbox's time, aware, in the account's zone."""
        clock = self._service.clock
        return datetime.fromtimestamp(clock.now(), clock.zone)

    def advance(self, seconds: float) -> None:
        """Move the clock that calls live on forward; the limit and the faults do not notice."""
        with self._service.lock:
            self._service.clock.advance(seconds)

    def fail_next(self, fault: str, *, times: int = 1, operation: str | None = None) -> None:
        """Fail the next `times` requests, of `operation` if given, before script and chance."""
        with self._service.lock:
            self._service.plan.ask(fault, times=times, operation=operation)

    @property
    def app(self) -> Starlette:
        """The ASGI application."""
        return build_app(self._service.answer)

    def transport(self) -> httpx.AsyncBaseTransport:
        """An httpx transport that reaches the sandbox without a socket, on asyncio and trio."""
        return SandboxTransport(self._service.answer)

    def serve(
        self, *, host: str = "127.0.0.1", port: int = 0, http: server.Parser = "auto"
    ) -> AbstractAsyncContextManager[str]:
        """Serve on a port from a thread of its own; enters with the API's base URL.

        Port 0 is any free one; `http` names uvicorn's parser. Raises `OSError` when the port
        is taken. Leaving closes every connection, stalled ones too.
        """
        return server.serve(self.app, host=host, port=port, http=http)

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        *,
        on_ready: Callable[[str], object] | None = None,
    ) -> None:
        """Serve until a signal, and then do what it would have done: raise `KeyboardInterrupt`.

        `on_ready` is called with the API's base URL once clients may connect.
        """
        server.run(self.app, host=host, port=port, on_ready=on_ready)
