"""A14: exports that nobody reads cost little memory, hold no connection of the database,
keep nobody out.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.conftest import Database
from tests.service import RunningService, running_service

pytestmark = pytest.mark.long

EXPORTS = 100
ROWS = 40_000
EACH_KB = 1800
"""It was 4 MB, and as much again in the kernel."""


@pytest.fixture
def service(database: Database) -> Iterator[RunningService]:
    """A trail of some 17 MB as lines."""
    with running_service(database) as running:
        caller = running.api_token()
        running.client.post("/scim-token", auth=caller, json={"team_id": str(uuid4()), "name": "x"})
        assert running.client.get("/audit", auth=caller).status_code == 200
        ((table,),) = running.query(
            "SELECT 'views.audit_trail_v' || version FROM ledger.projection_positions "
            "WHERE name = 'audit_trail' AND role = 'live'"
        )
        columns = running.query(
            "SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) "
            "FROM information_schema.columns "
            "WHERE table_schema = 'views' AND table_name = %s AND column_name <> 'position'",
            table.removeprefix("views."),
        )[0][0]
        running.query(
            f"INSERT INTO {table} (position, {columns}) "
            f"SELECT -number, {columns} FROM (SELECT * FROM {table} LIMIT 1) AS one, "
            f"generate_series(1, {ROWS}) AS number"
        )
        yield running


def rss_kb(service: RunningService) -> int:
    status = Path(f"/proc/{service.program_pids()['worker-1']}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


@pytest.mark.parametrize("format_", ["ndjson", "csv"])
def test_exports_that_nobody_reads_cost_little(service: RunningService, format_: str) -> None:
    caller = service.api_token()
    whole = service.client.get("/audit", auth=caller, params={"format": format_})
    assert len(whole.text.splitlines()) > ROWS
    before = rss_kb(service)
    address = urlsplit(service.url)
    lines = (
        f"GET /audit?format={format_} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {caller.secret}",
    )
    request = "\r\n".join([*lines, "", ""])
    with ExitStack() as opened:
        for _ in range(EXPORTS):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            opened.enter_context(client).connect((address.hostname, address.port))
            client.sendall(request.encode())
            assert client.recv(12) == b"HTTP/1.1 200"
        time.sleep(1)  # whatever is still read ahead
        grown_kb = rss_kb(service) - before
        busy = service.query(
            "SELECT state, wait_event, query FROM pg_stat_activity WHERE usename <> current_user "
            "AND state <> 'idle' AND query LIKE '%%audit_trail%%'"
        )
        assert service.client.get("/scim-token", auth=caller).status_code == 200
        assert service.client.get("/readyz").status_code == 200

    assert grown_kb < EXPORTS * EACH_KB, f"{grown_kb // EXPORTS} KB each"
    assert busy == []


@pytest.mark.parametrize("format_", ["ndjson", "csv"])
def test_an_export_ends_with_the_token_that_asked_for_it(
    service: RunningService, format_: str
) -> None:
    """Who holds a stolen token reads slowly, and has what was read; not what comes behind."""
    caller = service.api_token()
    address = urlsplit(service.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        client.connect((address.hostname, address.port))
        client.settimeout(10)
        client.sendall(
            f"GET /audit?format={format_} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {caller.secret}\r\n\r\n".encode()
        )
        assert client.recv(12) == b"HTTP/1.1 200"
        service.command(lambda ledger: ledger.revoke_api_token(caller.id))
        time.sleep(1.5)
        rest = b"".join(iter(lambda: client.recv(64 * 1024), b""))
    assert not rest.endswith(b"0\r\n\r\n"), "it does not look whole"
    assert rest.count(b"\n") < ROWS / 2, "what was on its way, and nothing behind"
