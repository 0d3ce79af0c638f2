"""Rebuilding the longest view: a row for each event, beside a plain COPY of the finished rows."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

import psycopg
from psycopg import Connection

from projections.audit_trail import view as audit_trail
from projections.follow.positions import live_position
from projections.rebuild.run import rebuild
from projections.rebuild.shapes import drop_old
from projections.registry import PROJECTIONS
from tests.benchmarks.bench import MILLION, Bench
from tests.benchmarks.result import Row, at_least
from tests.benchmarks.undisturbed import told, undisturbed

VIEW: Final = audit_trail.PROJECTION
FLOOR_VERSION: Final = 900
_CHUNK: Final = 1 << 20


def rebuild_audit(bench: Bench) -> Iterator[Row]:
    """The whole of it, from the first event to the switch;
    the floors only write what they are given.
    """
    ledger = bench.million
    rows = bench.work / "audit_rows"
    whats = {"with its indexes": at_least(0.5), "indexes made afterwards": None}
    with psycopg.connect(ledger.database.app, autocommit=True) as connection:
        _save(connection, rows)
        _rebuild_s(connection)  # warm, as the rows are

        def measure() -> tuple[float, dict[str, float]]:
            ours_s = _rebuild_s(connection)
            floors_s = {
                what: _floor_s(connection, rows, is_indexed_first=what == "with its indexes")
                for what in whats
            }
            return ours_s, floors_s

        found, thrown_away = undisturbed(measure, rounds=min(3, bench.rounds))
    rows.unlink()
    rate = median(MILLION / ours_s for ours_s, _ in found)
    for what, target in whats.items():
        yield Row(
            f"rebuild of audit_trail / COPY of its rows, {what}",
            [floors_s[what] / ours_s for ours_s, floors_s in found],
            target,
            rate=rate,
            note=told(thrown_away),
        )


def _save(connection: Connection, rows: Path) -> None:
    live = live_position(connection, VIEW)
    assert live is not None
    statement = f"COPY {VIEW.table(live.version)} TO STDOUT (FORMAT binary)"
    with (
        rows.open("wb") as file,
        connection.cursor() as cursor,
        cursor.copy(statement.encode()) as copy,
    ):
        while data := copy.read():
            file.write(data)


def _rebuild_s(connection: Connection) -> float:
    began = time.perf_counter()
    rebuild(connection, VIEW)
    taken_s = time.perf_counter() - began
    drop_old(connection, PROJECTIONS)
    return taken_s


def _floor_s(connection: Connection, rows: Path, *, is_indexed_first: bool) -> float:
    """COPY into an empty table like the view's own."""
    table = VIEW.table(FLOOR_VERSION)
    connection.execute(f"DROP TABLE IF EXISTS {table}".encode())
    connection.execute(VIEW.create_table(FLOOR_VERSION).encode())
    began = time.perf_counter()
    if is_indexed_first:
        _index(connection)
    statement = f"COPY {table} FROM STDIN (FORMAT binary)"
    with (
        rows.open("rb") as file,
        connection.cursor() as cursor,
        cursor.copy(statement.encode()) as copy,
    ):
        while data := file.read(_CHUNK):
            copy.write(data)
    if not is_indexed_first:
        _index(connection)
    taken_s = time.perf_counter() - began
    connection.execute(f"DROP TABLE {table}".encode())
    return taken_s


def _index(connection: Connection) -> None:
    for statement in VIEW.create_indexes(FLOOR_VERSION):
        connection.execute(statement.encode())
