"""OpenTelemetry traces: of requests, of the batches that commit them, and of what the proxy asks.

Only imported where SCIM_LEDGER_TRACES_ENDPOINT is set: the library is an extra. A span tells the
class of a route and never a path, a query, an address, a header or a name, and no error's text.
`traceparent` (W3C Trace Context) is taken from callers and handed to the upstream; `tracestate`
is a text of theirs and not recorded.
"""

import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from time import time_ns
from typing import Any, Final, TypeAlias

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode

from api.settings import Settings
from api.telemetry.routes import route_of

EXPORT_TIMEOUT_S: Final = 2.0
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch
_SERVER_ERROR: Final = 500


Forward: TypeAlias = Callable[
    [HTTPScope, Receive, Send, Sequence[tuple[bytes, bytes]]], Awaitable[None]
]
"""As the door of `/scim/v2` has it, which is above this."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Whose job it is, and since when (nanoseconds since 1970)."""

    span: Span
    asked_at: int


class Tracing:
    """The spans of one process, exported from a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        assert settings.traces_endpoint is not None
        about = {"service.name": "scim-ledger", "service.version": version("scim-ledger")}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.traces_sample)),
            resource=Resource.create(about),
            shutdown_on_exit=False,  # which waits for the collector, however long
        )
        exporter = OTLPSpanExporter(settings.traces_endpoint, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("scim-ledger")

    def close(self) -> None:
        """Export what is left, for as long as one export may take.

        The library does not heed its own time-outs: it exports batch by batch, each for as long as
        the collector still says something. Whatever goes on then ends with the process.
        """
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(EXPORT_TIMEOUT_S)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, with a span for each request."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            route = route_of(scope["path"])
            about = {"http.request.method": str(scope["method"]), "http.route": route}
            with self._span(route, SpanKind.SERVER, about, _caller(scope)) as span:
                await app(scope, receive, _telling(span, send))
                span.set_attribute("scim_ledger.request_id", scope["state"]["request_id"])

        return traced

    def upstream(self, forward: Forward) -> Forward:
        """What stands behind the door, with a span for each request to it, as the parent of the
        upstream's own.
        """

        async def traced(
            scope: HTTPScope,
            receive: Receive,
            send: Send,
            identity: Sequence[tuple[bytes, bytes]],
        ) -> None:
            about = {"http.request.method": str(scope["method"])}
            with self._span("upstream", SpanKind.CLIENT, about) as span:
                headers = [field for field in scope["headers"] if field[0] != b"traceparent"]
                headers.append((b"traceparent", _traceparent(span.get_span_context())))
                told: Any = {**scope, "headers": headers}
                await forward(told, receive, _telling(span, send), identity)

        return traced

    @contextmanager
    def _span(
        self,
        name: str,
        kind: SpanKind,
        about: dict[str, Any],
        parent: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name,
            parent,
            kind=kind,
            attributes=about,
            links=links,
            record_exception=False,  # its text may hold what a client sent
            set_status_on_exception=False,
        ) as span:
            yield span

    def asked(self) -> object:
        """For a batcher: who asks now."""
        span = trace.get_current_span()
        return _Origin(span, time_ns()) if span.is_recording() else None

    @contextmanager
    def batch(self, lane: str, jobs: int, origins: Sequence[object]) -> Iterator[None]:
        """For a batcher: a span for a batch, in the trace of the first who asked, and one for each
        who waited, linked to it.
        """
        asked = [origin for origin in origins if isinstance(origin, _Origin)]
        if not asked:
            yield
            return
        about = {"scim_ledger.lane": lane, "scim_ledger.batch.jobs": jobs}
        links = [Link(origin.span.get_span_context()) for origin in asked]
        first = trace.set_span_in_context(asked[0].span)
        with self._span("batch", SpanKind.INTERNAL, about, first, links) as span:
            yield
        link = Link(span.get_span_context())
        for origin in asked:
            waited = self._tracer.start_span(
                "append",
                trace.set_span_in_context(origin.span),
                start_time=origin.asked_at,
                links=[link],
            )
            waited.end()


def _telling(span: Span, send: Send) -> Send:
    """Notes the status of the answer."""

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= _SERVER_ERROR:
                span.set_status(StatusCode.ERROR)
        await send(message)

    return telling


def _caller(scope: HTTPScope) -> Context:
    """The context of whoever sent the request; an empty one where it tells none, or two."""
    told = [value for name, value in scope["headers"] if name == b"traceparent"]
    parts = _TRACEPARENT(told[0]) if len(told) == 1 else None
    if parts is None:
        return Context()
    ids = (int(parts[1], 16), int(parts[2], 16))
    flags = trace.TraceFlags(int(parts[3], 16) & trace.TraceFlags.SAMPLED)
    remote = SpanContext(*ids, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())


def _traceparent(context: SpanContext) -> bytes:
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)
