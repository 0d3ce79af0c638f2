"""The trail as a stream: GET /audit as NDJSON beside COPY of the same rows,
and the memory that it takes.
"""

import http.client
import time
from collections.abc import Iterator
from statistics import median
from typing import Final

import psycopg
from psycopg import Connection

from projections.audit_trail import view as audit_trail
from projections.follow.positions import live_position
from tests.benchmarks.bench import MILLION, Bench
from tests.benchmarks.result import Row, at_least
from tests.benchmarks.servers import Service, pss_mib
from tests.benchmarks.undisturbed import told, undisturbed

PATH: Final = "/audit?format=ndjson&order=oldest"
_CHUNK: Final = 1 << 20
_SAMPLE_EVERY: Final = 32 << 20


def audit_export(bench: Bench) -> Iterator[Row]:
    """A million rows over HTTP, and by COPY TO STDOUT; both thrown away as they come."""
    ledger = bench.million
    token = ledger.api_token.reveal()
    with (
        psycopg.connect(ledger.database.app, autocommit=True) as connection,
        bench.service(ledger) as service,
    ):
        (worker,) = service.worker_pids()
        _export(service, token, worker)  # warm, as the copying is

        def measure() -> tuple[float, float, float]:
            before = pss_mib(worker)
            began = time.perf_counter()
            copied = _copy_out(connection)
            copied_s = time.perf_counter() - began
            began = time.perf_counter()
            sent, highest = _export(service, token, worker)
            sent_s = time.perf_counter() - began
            # the caller's own uses are in the trail
            assert copied <= sent <= copied + 20, (copied, sent)
            return (sent / sent_s) / (copied / copied_s), sent / sent_s, highest - before

        found, thrown_away = undisturbed(measure, rounds=bench.rounds)
    ratios, rates, growths = zip(*found, strict=True)
    what = f"export of {MILLION:,} rows as NDJSON / COPY TO STDOUT of the same, rows a second"
    yield Row(what, ratios, at_least(0.3), rate=median(rates), note=told(thrown_away))
    yield Row("memory that a worker takes more while it exports", growths, unit="MiB")


def _copy_out(connection: Connection) -> int:
    live = live_position(connection, audit_trail.PROJECTION)
    assert live is not None
    statement = f"COPY {audit_trail.PROJECTION.table(live.version)} TO STDOUT"
    lines = 0
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        while copy.read():
            lines += 1
    return lines


def _export(service: Service, token: str, worker: int) -> tuple[int, float]:
    """Lines that came, and the most memory that the worker was seen with meanwhile."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=60)
    try:
        connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        lines, size, sampled, highest = 0, 0, 0, 0.0
        while chunk := response.read1(_CHUNK):
            lines, size = lines + chunk.count(b"\n"), size + len(chunk)
            if size - sampled >= _SAMPLE_EVERY:
                sampled, highest = size, max(highest, pss_mib(worker))
        return lines, highest
    finally:
        connection.close()
