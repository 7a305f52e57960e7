"""A client's traces and metrics, as OpenTelemetry's own exporters see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest
from attrs import define, field
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from innocalls_async import (
    AsyncBridgeClient,
    BridgeRequest,
    InnoCallsError,
    NotFoundError,
    OutcomeUnknownError,
    Scheduled,
)
from innocalls_async.events import Event, OperationEnded
from innocalls_async.integrations.otel import Telemetry
from innocalls_async.sandbox import Sandbox
from innocalls_async.testing import TEST_TOKEN, sandbox_client

pytestmark = pytest.mark.anyio

REQUEST = BridgeRequest("flow", "201123456789", "Ahmed", "201098765432", "Mona", 5)


def _exporting(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def _value(point: Any) -> float:
    value: float = point.value if isinstance(point, NumberDataPoint) else point.count
    return value


@define
class Collector:
    """An SDK that keeps what it is given."""

    exporter: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(factory=InMemoryMetricReader)
    tracers: TracerProvider = field(init=False)
    meters: MeterProvider = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tracers = _exporting(self.exporter)
        self.meters = MeterProvider(metric_readers=[self.reader])

    def telemetry(self, then: Any = None) -> Telemetry:
        return Telemetry(then, tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[tuple[Mapping[str, Any], float]]:
        """The metric's attributes and values; of a histogram, its counts."""
        data = self.reader.get_metrics_data()
        assert data is not None
        points = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]
        return [(point.attributes or {}, _value(point)) for point in points]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.tracers.shutdown()
    collector.meters.shutdown()


def span_id(span: ReadableSpan) -> int:
    context: Any = span.context
    return int(context.span_id)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def create(sandbox: Sandbox, collector: Collector, **options: Any) -> None:
    async with sandbox_client(sandbox, on_event=collector.telemetry(), **options) as client:
        await client.bridge(REQUEST)


HTTP = {
    "http.request.method": "POST",
    "server.address": "api.bridge.innocalls.com",
    "server.port": 443,
    "url.scheme": "https",
    "url.template": "/api/v1/call/bridge",
}
FULL = {"url.full": "https://api.bridge.innocalls.com/api/v1/call/bridge"}


class TestTraces:
    async def test_a_faulty_create(self, collector: Collector) -> None:
        """A create that meets a 503 and a 429 is one span with a child for each attempt, by the
        HTTP client conventions, under the caller's own span."""
        sandbox = Sandbox(script=("503", "429"))
        with collector.tracers.get_tracer("test").start_as_current_span("route") as route:
            await create(sandbox, collector)
        (operation,) = collector.spans("innocalls create")
        assert operation.parent is not None
        assert operation.parent.span_id == route.get_span_context().span_id
        assert operation.kind is SpanKind.INTERNAL
        assert operation.status.status_code is StatusCode.UNSET
        assert attributes(operation) == {
            "innocalls.operation": "create",
            "innocalls.outcome": "done",
            "innocalls.attempts": 3,
        }
        assert [event.name for event in operation.events] == [
            "retry planned",
            "paused",
            "retry planned",
        ]
        attempts = collector.spans("POST /api/v1/call/bridge")
        assert [attributes(attempt) for attempt in attempts] == [
            HTTP | FULL | {"http.response.status_code": 503, "error.type": "503"},
            HTTP
            | FULL
            | {
                "http.request.resend_count": 1,
                "http.response.status_code": 429,
                "error.type": "429",
            },
            HTTP | FULL | {"http.request.resend_count": 2, "http.response.status_code": 200},
        ]
        for attempt in attempts:
            assert attempt.kind is SpanKind.CLIENT
            assert attempt.parent is not None
            assert attempt.parent.span_id == span_id(operation)
        assert [attempt.status.status_code for attempt in attempts] == [
            StatusCode.ERROR,
            StatusCode.ERROR,
            StatusCode.UNSET,
        ]

    async def test_a_create_in_doubt(self, collector: Collector) -> None:
        """A lost answer is an error of the operation's span, which says that it is in doubt."""
        with pytest.raises(OutcomeUnknownError):
            await create(Sandbox(script=("drop",)), collector)
        (operation,) = collector.spans("innocalls create")
        assert operation.status.status_code is StatusCode.ERROR
        assert attributes(operation)["innocalls.outcome"] == "in_doubt"
        assert attributes(operation)["error.type"] == "OutcomeUnknownError"
        (attempt,) = collector.spans("POST /api/v1/call/bridge")
        assert "http.response.status_code" not in attributes(attempt)
        assert attributes(attempt)["error.type"] == "ResponseError"

    async def test_a_refusal_inside_a_200(self, collector: Collector) -> None:
        """`success: false` in a 200 is an error, whose type is ours and not the status."""
        client = sandbox_client(Sandbox(profile="envelope200"), on_event=collector.telemetry())
        async with client:
            with pytest.raises(NotFoundError):
                await client.status("no-such-call", "flow")
        (attempt,) = collector.spans("GET /api/v1/call/status")
        assert attributes(attempt)["http.response.status_code"] == 200
        assert attributes(attempt)["error.type"] == "NotFoundError"

    async def test_a_cancelled_create(self, collector: Collector) -> None:
        """What is cancelled ends its spans too, and a create on the wire is in doubt."""
        with anyio.move_on_after(0.05):
            await create(Sandbox(latency=10), collector)
        (attempt,) = collector.spans("POST /api/v1/call/bridge")
        assert attempt.status.status_code is StatusCode.ERROR
        assert attributes(attempt)["error.type"] in {"CancelledError", "Cancelled"}
        assert len(collector.points("http.client.request.duration")) == 1
        (operation,) = collector.spans("innocalls create")
        assert attributes(operation)["innocalls.outcome"] == "in_doubt"
        assert trace.get_current_span() is trace.INVALID_SPAN

    async def test_a_fan_out_belongs_to_its_caller(self, collector: Collector) -> None:
        """Each operation of a fan-out is a child of the span that was current where it began."""
        requests = [
            BridgeRequest("flow", f"2011{n:08}", "Ahmed", "201098765432", "Mona", 5)
            for n in range(20)
        ]
        client = sandbox_client(Sandbox(), on_event=collector.telemetry())
        tracer = collector.tracers.get_tracer("test")
        async with client:
            with tracer.start_as_current_span("campaign") as campaign:
                outcomes = [outcome async for outcome in client.bridge_many(requests)]
                assert trace.get_current_span() is campaign
        assert all(isinstance(outcome, Scheduled) for outcome in outcomes)
        operations = collector.spans("innocalls create")
        parents = {span.parent.span_id for span in operations if span.parent}
        assert parents == {campaign.get_span_context().span_id}
        own = {span_id(span) for span in operations}
        attempts = collector.spans("POST /api/v1/call/bridge")
        assert {span.parent.span_id for span in attempts if span.parent} == own
        assert len(own) == 20

    async def test_what_happens_inside_belongs_to_the_attempt(self, collector: Collector) -> None:
        """During an attempt its span is current, so an HTTP instrumentation's is its child."""
        seen: list[Any] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            seen.append(trace.get_current_span().get_span_context().span_id)
            return httpx.Response(200, json={"success": True, "data": {"call_id": "id"}})

        async with AsyncBridgeClient(
            TEST_TOKEN, transport=httpx.MockTransport(answer), on_event=collector.telemetry()
        ) as client:
            await client.bridge(REQUEST)
        (attempt,) = collector.spans("POST /api/v1/call/bridge")
        assert seen == [span_id(attempt)]

    async def test_the_context_goes_with_the_request(self, collector: Collector) -> None:
        """The service is told the attempt's span, and no baggage; or nothing, if so chosen."""
        sent: list[httpx.Headers] = []

        def answer(request: httpx.Request) -> httpx.Response:
            sent.append(request.headers)
            return httpx.Response(200, json={"success": True, "data": {"call_id": "id"}})

        async def send(telemetry: Telemetry) -> None:
            transport = httpx.MockTransport(answer)
            async with AsyncBridgeClient(
                TEST_TOKEN, transport=transport, on_event=telemetry
            ) as client:
                await client.bridge(REQUEST)

        token = context.attach(baggage.set_baggage("customer", "201123456789"))
        await send(collector.telemetry())
        await send(Telemetry(tracer_provider=collector.tracers, propagates=False))
        context.detach(token)
        first, _ = collector.spans("POST /api/v1/call/bridge")
        told, silent = sent
        assert told["traceparent"].split("-")[2] == f"{span_id(first):016x}"
        assert "baggage" not in told
        assert "traceparent" not in silent

    async def test_clients_may_share_one(self, collector: Collector) -> None:
        """The operations of two clients under way at once have a span each."""
        telemetry = collector.telemetry()
        clients = [sandbox_client(Sandbox(latency=0.05), on_event=telemetry) for _ in range(2)]
        async with clients[0], clients[1], anyio.create_task_group() as group:
            for client in clients:
                group.start_soon(client.bridge, REQUEST)
        assert len(collector.spans("innocalls create")) == 2
        assert len(collector.spans("POST /api/v1/call/bridge")) == 2
        assert collector.points("innocalls.operation.active")[0][1] == 0


class TestMetrics:
    async def test_a_faulty_create(self, collector: Collector) -> None:
        """Operations, attempts, retries, waits and what is in flight are counted."""
        await create(Sandbox(script=("503", "500")), collector)
        created = {"innocalls.operation": "create"}
        assert collector.points("innocalls.operation.duration") == [
            (created | {"innocalls.outcome": "done"}, 1)
        ]
        failed = {
            status: {"http.response.status_code": status, "error.type": str(status)}
            for status in (503, 500)
        }
        assert collector.points("innocalls.attempts") == [
            (created | failed[503], 1),
            (created | failed[500], 1),
            (created | {"http.response.status_code": 200}, 1),
        ]
        assert collector.points("http.client.request.duration") == [
            (HTTP | failed[503], 1),
            (HTTP | failed[500], 1),
            (HTTP | {"http.response.status_code": 200}, 1),
        ]
        assert collector.points("innocalls.retries") == [
            (created | {"innocalls.reason": "unavailable"}, 1),
            (created | {"innocalls.reason": "failed"}, 1),
        ]
        assert collector.points("innocalls.limiter.wait") == [(created, 3)]
        assert collector.points("innocalls.operation.active") == [(created, 0)]
        assert collector.points("innocalls.in_doubt") == []

    async def test_what_is_in_doubt_is_counted(self, collector: Collector) -> None:
        """A create in doubt has a counter of its own, to alert on."""
        with pytest.raises(OutcomeUnknownError):
            await create(Sandbox(script=("drop",)), collector)
        assert collector.points("innocalls.in_doubt") == [({"innocalls.operation": "create"}, 1)]

    async def test_what_is_in_flight_is_counted(self, collector: Collector) -> None:
        """While an operation lasts it is counted as active."""
        async with anyio.create_task_group() as group:
            group.start_soon(create, Sandbox(latency=0.2), collector)
            await anyio.sleep(0.05)
            assert collector.points("innocalls.operation.active")[0][1] == 1
        assert collector.points("innocalls.operation.active")[0][1] == 0


async def test_no_attribute_tells_a_secret(collector: Collector) -> None:
    """Neither a number, a name, an id nor the token is in anything that is exported."""
    sandbox = Sandbox(script=(None, "500", None, "drop", None, "404", None, "401"))
    token = "kept-secret-token"
    async with sandbox_client(sandbox, on_event=collector.telemetry(), token=token) as client:
        call = await client.bridge(REQUEST)
        operations: list[Callable[[], Awaitable[object]]] = [
            lambda: client.bridge(REQUEST),
            lambda: client.status(call.call_id, "flow"),
            lambda: client.delete(call.call_id),
            lambda: client.delete("no-such-call-id"),
        ]
        for operate in operations * 2:
            with suppress(InnoCallsError):
                await operate()
    exported = "".join(span.to_json() for span in collector.exporter.get_finished_spans())
    data = collector.reader.get_metrics_data()
    assert data is not None
    exported += data.to_json()
    secrets = (token, call.call_id, "no-such-call-id", "Ahmed", "Mona")
    for secret in (*secrets, REQUEST.first_callee_number, REQUEST.second_callee_number):
        assert secret not in exported


async def test_a_further_callback_has_every_event(collector: Collector) -> None:
    """`Telemetry(then)` hands on what it was given, also a kind of event it does not know."""
    events: list[Event] = []
    telemetry = collector.telemetry(events.append)
    async with sandbox_client(Sandbox(), on_event=telemetry) as client:
        await client.bridge(REQUEST)
    assert isinstance(events[-1], OperationEnded)
    telemetry(Event("create", 1, 0, 0.0))
    assert len(events) == 6


async def test_the_global_providers_are_the_default() -> None:
    """`Telemetry()` with no SDK set up costs nothing and breaks nothing."""
    async with sandbox_client(Sandbox(), on_event=Telemetry()) as client:
        await client.bridge(REQUEST)


async def test_a_local_http_address(collector: Collector) -> None:
    """Address and port are the server's, also where the port is the scheme's own."""
    for base_url, port in (("http://127.0.0.1/api/v1", 80), ("http://localhost:8080/api/v1", 8080)):
        await create(Sandbox(), collector, base_url=base_url)
        assert attributes(collector.spans("POST /api/v1/call/bridge")[-1])["server.port"] == port
