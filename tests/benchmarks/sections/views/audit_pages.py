"""Asking the trail: what a page costs, and that it costs the same however long the trail is."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg

from projections.audit_trail import view as audit_trail
from projections.follow import positions
from tests.benchmarks.bench import Bench, Ledger
from tests.benchmarks.compare import compare
from tests.benchmarks.result import Row, at_most
from tests.projections.many_rows import TABLE, TEAMS, VERSION, generate, team

SHORT: Final = 100_000
LONG: Final = 1_000_000
LARGE: Final = 10_000_000
WINDOW: Final = timedelta(hours=12)
"""A row a second, of 300 teams in turn: 144 of one team."""

_FIRST_AT: Final = datetime(2021, 1, 1, tzinfo=UTC)
_STANDS_AT: Final = """
    UPDATE ledger.projection_positions SET version = %s, position = %s WHERE name = 'audit_trail'
"""


def audit_pages(bench: Bench) -> Iterator[Row]:
    """GET /audit?team_id=…&from=…&to=…&limit=100: every team in turn, twelve hours anywhere."""
    long = LARGE if bench.is_large else LONG
    ledgers = {rows: _trail(bench, rows) for rows in (SHORT, long)}
    asked = {
        rows: bench.requests("GET", _paths(rows), [ledger.api_token.reveal()])
        for rows, ledger in ledgers.items()
    }
    with bench.service(ledgers[SHORT]) as of_short, bench.service(ledgers[long]) as of_long:
        for service, rows in ((of_short, SHORT), (of_long, long)):
            page = service.get(_paths(rows)[0], token=ledgers[rows].api_token.reveal())
            assert page.status == 200, page
            assert page.body.count(b'"position"') == 100, page.body
        found = compare(
            bench.load(of_short, asked[SHORT]),
            bench.load(of_long, asked[long]),
            rounds=bench.rounds,
        )
        growth = found.row(f"audit page by team and time: {long:,} rows / {SHORT:,}", at_most(1.5))
        is_short = "" if bench.is_large else f"--large for {LARGE:,} rows"
        notes = "; ".join(filter(None, [is_short, growth.note]))
        yield replace(growth, values=[1 / ratio for ratio in found.ratios], note=notes)


def _trail(bench: Bench, rows: int) -> Ledger:
    """A ledger whose view `audit_trail` was generated:
    a table of its own, of which the pointer row knows.
    """
    ledger = bench.new_ledger(f"trail_{rows}", tokens=1)
    with psycopg.connect(ledger.database.owner, autocommit=True) as connection:
        generate(connection, rows)
        owner = positions.live_position(connection, audit_trail.PROJECTION)
        assert owner is not None
        connection.execute(f"GRANT SELECT ON {TABLE} TO PUBLIC".encode())
        connection.execute(_STANDS_AT.encode(), [VERSION, rows])
        connection.execute(f"VACUUM {TABLE}".encode())
        connection.execute("CHECKPOINT")
    return ledger


def _paths(rows: int) -> list[str]:
    """A page of each team, of twelve hours that begin somewhere in the trail."""
    latest = timedelta(seconds=rows) - WINDOW
    starts = [_FIRST_AT + latest * (number * 7919 % TEAMS) / TEAMS for number in range(TEAMS)]
    return [
        f"/audit?team_id={team(number)}&from={_text(start)}&to={_text(start + WINDOW)}&limit=100"
        for number, start in enumerate(starts)
    ]


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
