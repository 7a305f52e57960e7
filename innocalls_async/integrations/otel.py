"""Traces and metrics of a client, by the HTTP client semantic conventions of OpenTelemetry.

    client = AsyncBridgeClient(on_event=Telemetry())

A span an operation (internal, `innocalls create`), a child span an attempt (client, `POST
/call/bridge`), both current while they last, so that what an HTTP instrumentation or a log
handler adds belongs to them. The operation's parent is the caller's current span, in a fan-out
too.

The span's context is sent with each attempt (`traceparent`, or what the global propagator
writes), so that the service's side can join the trace; baggage, which may hold anything, is not.

No attribute holds a number, a name, a token or an id: an address is its template.
Source: OpenTelemetry semantic conventions, "HTTP spans" and "HTTP metrics".
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from functools import singledispatchmethod
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from attrs import define
from opentelemetry import context, metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from innocalls_async import __version__
from innocalls_async.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    LimiterWaited,
    OperationEnded,
    OperationStarted,
    Paused,
    RetryPlanned,
)
from innocalls_async.wire import OPERATIONS

__all__ = ["Telemetry"]

_SCOPE: Final = "innocalls_async"
# The version of the semantic conventions that is meant.
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.37.0"
_OPERATIONS: Final = {operation.name: operation for operation in OPERATIONS}
# As the conventions write what must not be shown of an address.
_HIDDEN: Final = "REDACTED"
# The boundaries that the conventions ask of http.client.request.duration, in seconds.
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

Attributes: TypeAlias = dict[str, str | int | float]


@define(eq=False)
class _Current:
    """A span under way, and what to go back to after it."""

    span: Span
    before: Token[Context]


@define(eq=False)
class _Operation:
    current: _Current
    http: Attributes  # the same for each of its attempts
    address: str
    attempt: _Current | None = None


class Telemetry:
    """An `on_event` callback, for one client or several.

    Args:
        then: a further callback, which gets every event afterwards.
        tracer_provider: by default the global one.
        meter_provider: by default the global one.
        propagates: whether the span's context is sent to the service.
    """

    def __init__(
        self,
        then: Callable[[Event], object] | None = None,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        propagates: bool = True,
    ) -> None:
        self._then = then
        self._propagates = propagates
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider, _SCHEMA)
        self._instruments = _Instruments(
            metrics.get_meter(_SCOPE, __version__, meter_provider, _SCHEMA)
        )
        self._under_way: dict[int, _Operation] = {}

    def __call__(self, event: Event) -> None:
        self._note(event)
        if self._then is not None:
            self._then(event)

    @singledispatchmethod
    def _note(self, event: Event) -> None:
        """An event of a kind that this version does not know."""

    @_note.register
    def _(self, event: OperationStarted) -> None:
        name = event.operation
        current = self._begin(f"innocalls {name}", SpanKind.INTERNAL, {"innocalls.operation": name})
        self._under_way[event.number] = _Operation(
            current, _http_attributes(event), _address(event)
        )
        self._instruments.active.add(1, {"innocalls.operation": name})

    @_note.register
    def _(self, event: LimiterWaited) -> None:
        self._instruments.limiter_wait.record(
            event.seconds, {"innocalls.operation": event.operation}
        )

    @_note.register
    def _(self, event: AttemptStarted) -> None:
        if operation := self._under_way.get(event.number):
            attributes = {**operation.http, "url.full": operation.address}
            if event.attempt > 1:
                attributes["http.request.resend_count"] = event.attempt - 1
            method, template = attributes["http.request.method"], attributes["url.template"]
            operation.attempt = self._begin(f"{method} {template}", SpanKind.CLIENT, attributes)
            if self._propagates:
                propagate.inject(event.headers)
                event.headers.pop("baggage", None)

    @_note.register
    def _(self, event: AttemptEnded) -> None:
        answer = _answer_attributes(event)
        if operation := self._under_way.get(event.number):
            self._instruments.duration.record(event.seconds, operation.http | answer)
            _end(operation.attempt, answer)
            operation.attempt = None
        self._instruments.attempts.add(1, {"innocalls.operation": event.operation, **answer})

    @_note.register
    def _(self, event: Paused) -> None:
        self._mention(event, "paused", {})

    @_note.register
    def _(self, event: RetryPlanned) -> None:
        self._mention(event, "retry planned", {"innocalls.reason": event.reason})
        self._instruments.retries.add(
            1, {"innocalls.operation": event.operation, "innocalls.reason": event.reason}
        )

    @_note.register
    def _(self, event: OperationEnded) -> None:
        name: Attributes = {"innocalls.operation": event.operation}
        outcome: Attributes = {"innocalls.outcome": event.outcome}
        if event.error is not None and event.outcome != "cancelled":
            outcome["error.type"] = event.error
        if operation := self._under_way.pop(event.number, None):
            _end(operation.current, outcome | {"innocalls.attempts": event.attempt})
            self._instruments.active.add(-1, name)
        self._instruments.operations.record(event.seconds, name | outcome)
        if event.outcome == "in_doubt":
            self._instruments.in_doubt.add(1, name)

    def _begin(self, name: str, kind: SpanKind, attributes: Attributes) -> _Current:
        span = self._tracer.start_span(name, kind=kind, attributes=attributes)
        return _Current(span, context.attach(trace.set_span_in_context(span)))

    def _mention(self, event: Event, name: str, attributes: Attributes) -> None:
        if operation := self._under_way.get(event.number):
            seconds: Attributes = {"innocalls.seconds": event.seconds}
            operation.current.span.add_event(name, attributes | seconds)


class _Instruments:
    """What is counted and measured. An operation's duration is a histogram, whose count is the
    number of operations."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.operations = meter.create_histogram(
            "innocalls.operation.duration",
            "s",
            "Operations, all attempts and waiting included",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.duration = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.limiter_wait = meter.create_histogram(
            "innocalls.limiter.wait",
            "s",
            "Waiting for a connection, a pause or the limiter",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.active = meter.create_up_down_counter(
            "innocalls.operation.active", "{operation}", "Operations under way"
        )
        self.attempts = meter.create_counter("innocalls.attempts", "{attempt}", "HTTP exchanges")
        self.retries = meter.create_counter("innocalls.retries", "{retry}", "Retries planned")
        self.in_doubt = meter.create_counter(
            "innocalls.in_doubt", "{operation}", "Creates whose outcome is not known"
        )


def _http_attributes(event: OperationStarted) -> Attributes:
    address = urlsplit(event.address)
    return {
        "http.request.method": event.method,
        "server.address": address.hostname or "",
        "server.port": address.port or (443 if address.scheme == "https" else 80),
        "url.scheme": address.scheme,
        "url.template": address.path + _OPERATIONS[event.operation].path,
    }


def _address(event: OperationStarted) -> str:
    operation = _OPERATIONS[event.operation]
    path = operation.path.replace("{call_uuid}", _HIDDEN)
    query = "&".join(f"{name}={_HIDDEN}" for name in operation.query)
    return event.address + path + (query and f"?{query}")


def _answer_attributes(event: AttemptEnded) -> Attributes:
    attributes: Attributes = {}
    if event.status is not None:
        attributes["http.response.status_code"] = event.status
    if event.error is not None:
        is_answered = event.status is not None and event.status >= 400
        attributes["error.type"] = str(event.status) if is_answered else event.error
    return attributes


def _end(current: _Current | None, attributes: Attributes) -> None:
    if current is None:
        return
    current.span.set_attributes(attributes)
    if "error.type" in attributes:
        current.span.set_status(StatusCode.ERROR)
    current.span.end()
    context.detach(current.before)
