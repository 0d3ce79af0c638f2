"""The formats of the trail: each tells the same, and a long one is streamed."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from projections.audit_trail.view import PROJECTION
from tests.api.expected import use
from tests.api.trail import ROW, audit, auditor, events_of, plain, present, token
from tests.service import Caller, RunningService
from tests.turns import by_turns

__all__ = ["auditor", "plain", "token"]

NDJSON = {"Accept": "application/x-ndjson"}


def test_every_format_tells_the_same(
    service: RunningService, auditor: Caller, token: dict[str, Any], plain: httpx.Client
) -> None:
    present(service, token["token"], source="192.0.2.1", user_agent='Ok"ta, Inc\u00e9')
    rows = audit(service, auditor, events_of(token))

    lines = plain.get(events_of(token), auth=auditor, headers=NDJSON)
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert lines.headers["cache-control"] == "no-store"
    newest = rows[0]["position"]  # what the clock tells may come behind it meanwhile
    told = [json.loads(line) for line in lines.text.splitlines()]
    assert [row for row in told if row["position"] <= newest] == rows

    table = plain.get(events_of(token), auth=auditor, params={"format": "csv"})
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.headers["content-disposition"] == 'attachment; filename="audit.csv"'
    header, *body = csv.reader(io.StringIO(table.text))
    assert header == ROW
    body = [line for line in body if int(line[0]) <= newest]
    assert body == [["" if row[name] is None else str(row[name]) for name in ROW] for row in rows]


@pytest.mark.parametrize(
    "agent",
    by_turns(
        ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", "\n=1", "\uff0b1", "\uff0d1"],
        one_of=3,
    ),
)
def test_a_spreadsheet_finds_no_formula(
    service: RunningService, auditor: Caller, token: dict[str, Any], plain: httpx.Client, agent: str
) -> None:
    present(service, token["token"], user_agent=agent)

    params = {"format": "csv", "kind": "scim_token.used"}
    table = plain.get(events_of(token), auth=auditor, params=params).text
    used = next(csv.DictReader(io.StringIO(table, newline="")))
    assert used["user_agent"] == f"'{agent}"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    by_turns(
        [
            ("*/*", "application/json"),
            ("application/json, text/csv;q=0.5", "application/json"),
            ("text/csv, application/json;q=0.9", "text/csv; charset=utf-8"),
            ("application/jsonl", "application/x-ndjson"),
            ("text/html, application/ndjson;q=0.8", "application/x-ndjson"),
        ],
        one_of=3,
    ),
)
def test_the_accept_header_is_honoured(
    auditor: Caller, token: dict[str, Any], plain: httpx.Client, accept: str, media_type: str
) -> None:
    answer = plain.get(events_of(token), auth=auditor, headers={"Accept": accept})

    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)


@pytest.mark.parametrize(
    ("lines", "media_type"),
    [
        (("application/xml", "text/csv"), "text/csv; charset=utf-8"),
        (("text/csv;q=0.1", "", "application/ndjson"), "application/x-ndjson"),
        (("application/json;q=0", "text/html", "text/csv, */*;q=0.1"), "text/csv; charset=utf-8"),
    ],
)
def test_a_header_of_several_lines_is_one_list(
    auditor: Caller, token: dict[str, Any], plain: httpx.Client, lines: tuple[str], media_type: str
) -> None:
    headers = [("Accept", line) for line in lines]
    answer = plain.get(events_of(token), auth=auditor, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)


def test_a_format_that_we_do_not_have_is_406(service: RunningService, auditor: Caller) -> None:
    answer = service.client.get("/audit", auth=auditor, headers={"Accept": "application/xml"})

    assert answer.status_code == 406
    assert answer.json()["type"] == "/problems/not-acceptable"


def test_an_empty_trail_is_no_line_and_a_header(auditor: Caller, plain: httpx.Client) -> None:
    params = {"team_id": str(uuid4())}
    assert plain.get("/audit", auth=auditor, params=params | {"format": "ndjson"}).text == ""
    assert (
        plain.get("/audit", auth=auditor, params=params | {"format": "csv"}).text
        == ",".join(ROW) + "\r\n"
    )


def test_a_stream_ends_at_its_limit(
    service: RunningService, auditor: Caller, token: dict[str, Any], plain: httpx.Client
) -> None:
    for _ in range(3):
        use(service, token["token"])

    params = {"limit": "2", "kind": "scim_token.used"}  # none that the clock tells meanwhile
    told = plain.get(events_of(token), auth=auditor, headers=NDJSON, params=params)
    lines = told.text.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["scim_token.used"] * 2


@pytest.mark.long
def test_a_long_stream_needs_no_memory(
    service: RunningService, plain: httpx.Client, team: UUID
) -> None:
    auditor = service.api_token(teams=[team])
    worker = service.program_pids()["worker-1"]

    def export(limit: int) -> tuple[int, int]:
        """Bytes that came, and by how many KiB the worker's peak grew meanwhile."""
        Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak starts anew
        before = peak_kib(worker)
        lines = size = 0
        with plain.stream(
            "GET", "/audit", auth=auditor, params={"format": "ndjson", "limit": limit}
        ) as answer:
            for piece in answer.iter_bytes():
                lines += piece.count(b"\n")
                size += len(piece)
        assert lines == limit
        return size, peak_kib(worker) - before

    with older_rows(service, team, count=100_000):
        # what the worker keeps for good, such as prepared statements, is there now
        export(limit=20_000)
        short, short_kib = export(limit=20_000)
        long, long_kib = export(limit=100_000)
    assert long_kib - short_kib < (long - short) / 1024 / 8, f"{short_kib} KiB, {long_kib} KiB"


def peak_kib(pid: int) -> int:
    """The most memory that a process has held since its peak was reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@contextmanager
def older_rows(service: RunningService, team: UUID, *, count: int) -> Iterator[None]:
    """Rows of a team in the view, before all that the ledger holds, taken away at the end."""
    ((version,),) = service.query(
        "SELECT version FROM ledger.projection_positions WHERE name = %s AND role = 'live'",
        PROJECTION.name,
    )
    table = PROJECTION.table(version)
    service.query(
        f"""
        INSERT INTO {table}
            (position, at, team_id, token_id, use_id, count, kind, door, source, user_agent, method)
        SELECT n - {count}, timestamptz '2020-01-01Z' + n * interval '1 s', %s, %s,
            gen_random_uuid(), 1, 'scim_token.used', 'scim', '192.0.2.1', 'Okta SCIM Client 1.0.0',
                'GET'
        FROM generate_series(1, {count}) AS n
        """,
        team,
        uuid4(),
    )
    service.query(f"ANALYZE {table}")
    try:
        yield
    finally:
        service.query(f"DELETE FROM {table} WHERE team_id = %s", team)
