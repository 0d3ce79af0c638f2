"""Traces: off unless they are asked for; a request, its batch and its upstream are one trace."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from uuid import uuid4

import httpx
import pytest

from tests.api.doors.scim.upstream import RecordingUpstream, running_upstream
from tests.api.telemetry.hostile import NEVER_TOLD, send_all
from tests.conftest import new_database
from tests.service import RunningService, running_service, until

pytest.importorskip("opentelemetry.sdk", reason="pip install -r requirements-traces.txt")

from api.telemetry.traces import EXPORT_TIMEOUT_S
from tests.api.telemetry.collector import Collector, running_collector

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
CALLER: Final = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as started:
        yield started


@pytest.fixture(scope="module")
def upstream() -> Iterator[RecordingUpstream]:
    with running_upstream() as started:
        yield started


@pytest.fixture(scope="module")
def traced(
    server: str, collector: Collector, upstream: RecordingUpstream
) -> Iterator[RunningService]:
    environment = {
        "SCIM_LEDGER_TRACES_ENDPOINT": collector.url,
        "SCIM_LEDGER_SCIM_UPSTREAM_URL": upstream.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with (
        new_database(server) as database,
        running_service(database, environment=environment) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def secret(traced: RunningService) -> str:
    body = {"team_id": str(uuid4()), "name": "traced"}
    made = traced.client.post("/scim-token", json=body, auth=traced.api_token())
    text: str = made.json()["token"]
    return text


def ask(service: RunningService, secret: str, *traceparents: str) -> httpx.Response:
    headers = [("Authorization", f"Bearer {secret}")]
    headers += [("traceparent", each) for each in traceparents]
    return service.client.get("/scim/v2/Users/4711", headers=headers)


def test_a_request_its_batch_and_its_upstream_are_one_trace(
    traced: RunningService, collector: Collector, upstream: RecordingUpstream, secret: str
) -> None:
    answer = ask(traced, secret, f"00-{TRACE}-{CALLER}-01")
    assert answer.status_code == 200
    until(lambda: len(collector.named("scim", TRACE)) == 1, what="the span of the request")
    (request,) = collector.named("scim", TRACE)
    assert request.parent_id == CALLER
    assert request.attributes == {
        "http.request.method": "GET",
        "http.route": "scim",
        "http.response.status_code": 200,
        "scim_ledger.request_id": answer.headers["x-request-id"],
    }
    (batch,), (append,), (asked,) = (
        collector.named(name, TRACE) for name in ("batch", "append", "upstream")
    )
    assert {batch.parent_id, append.parent_id, asked.parent_id} == {request.span_id}
    assert batch.attributes == {"scim_ledger.lane": "uses", "scim_ledger.batch.jobs": 1}
    assert (batch.links, append.links) == ([request.span_id], [batch.span_id])
    assert append.duration_ns >= batch.duration_ns > 0
    assert upstream.requests[-1].values("traceparent") == [f"00-{TRACE}-{asked.span_id}-01"]
    assert asked.attributes == {"http.request.method": "GET", "http.response.status_code": 200}


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("00-evil-e7c1-01",),
        (f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-01"),
        (f"00-{'0' * 32}-{CALLER}-01",),
        (f"00-{TRACE}-{'0' * 16}-01",),
    ],
)
def test_a_context_that_is_none_begins_another_trace(
    traced: RunningService,
    collector: Collector,
    upstream: RecordingUpstream,
    secret: str,
    given: tuple[str, ...],
) -> None:
    answer = ask(traced, secret, *given)
    (told,) = upstream.requests[-1].values("traceparent")
    trace_id = told.split("-")[1]
    assert trace_id not in {TRACE, "0" * 32}
    until(lambda: bool(collector.named("scim", trace_id)), what="the span")
    (span,) = collector.named("scim", trace_id)
    assert span.parent_id == ""
    assert span.attributes["scim_ledger.request_id"] == answer.headers["x-request-id"]


def test_a_caller_that_does_not_sample_is_not_traced(
    traced: RunningService, collector: Collector, upstream: RecordingUpstream, secret: str
) -> None:
    quiet = "1" * 32
    ask(traced, secret, f"00-{quiet}-{CALLER}-00")
    (told,) = upstream.requests[-1].values("traceparent")
    assert told.startswith(f"00-{quiet}-")
    assert told.endswith("-00")
    loud = "2" * 32
    ask(traced, secret, f"00-{loud}-{CALLER}-01")
    until(lambda: bool(collector.named("scim", loud)), what="the one after it")
    assert not collector.named("scim", quiet)


def test_nothing_that_a_client_sends_is_in_a_span(
    traced: RunningService, collector: Collector, secret: str
) -> None:
    send_all(traced.url, secret)
    last = "3" * 32
    ask(traced, secret, f"00-{last}-{CALLER}-01")
    until(lambda: bool(collector.named("scim", last)), what="the last one")
    exported = b"".join(collector.bodies)
    for told in (secret, "4711", "127.0.0.1", *NEVER_TOLD):
        assert told.encode() not in exported


@pytest.mark.long
def test_a_collector_that_is_away_holds_nobody_up(server: str) -> None:
    environment = {"SCIM_LEDGER_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}
    with (
        new_database(server) as database,
        running_service(database, environment=environment) as service,
    ):
        for _ in range(20):
            assert service.client.get("/healthz").elapsed.total_seconds() < 1


ENDS: Final = """
import sys
from opentelemetry.trace import SpanKind
from api.settings import Settings
from api.telemetry.traces import Tracing
tracing = Tracing(Settings(traces_endpoint=sys.argv[1]))
for _ in range(2000):  # four batches
    with tracing._span("x", SpanKind.SERVER, {}):
        pass
print("closing", flush=True)
tracing.close()
"""


@pytest.mark.parametrize("says", [b"", b"x"], ids=["falls silent", "drips"])
def test_a_collector_that_never_has_done_holds_no_end_up(says: bytes) -> None:
    """Requests ends a wait for each piece of an answer, and the library one for a batch."""

    def drip(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not has_ended.wait(0.2):
                connection.sendall(says)

    has_ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
        process = subprocess.Popen(
            [sys.executable, "-c", ENDS, url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"closing\n"
            assert process.wait(EXPORT_TIMEOUT_S + 4) == 0
        finally:
            has_ended.set()
            process.kill()
            process.communicate()
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.long
def test_without_the_setting_nothing_of_the_library_is_loaded() -> None:
    code = (
        "import sys, api.app\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_a_start_says_so() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from api.settings import Settings\n"
        "from api.telemetry.tracing import check_tracing\n"
        "check_tracing(Settings())\n"
        "check_tracing(Settings(traces_endpoint='http://127.0.0.1:4318/v1/traces'))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert "SCIM_LEDGER_TRACES_ENDPOINT needs the extra traces: docs/how-to/install.md#extras" in (
        found.stderr
    )
