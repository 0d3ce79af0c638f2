"""Views from the whole ledger: what a rebuild costs beside the bare reading of its events,
and on disk.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.persistence import Mapper, Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import BaseProjectionRunner, Projection
from psycopg import Connection

from domain.event import Recorded
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.library.factory import LedgerFactory
from domain.eventstore.library.mapper import LedgerMapper
from projections.audit_trail import view as audit_trail
from projections.follow.positions import live_position
from projections.projection import LogEntry
from projections.rebuild.run import rebuild
from projections.rebuild.shapes import drop_old
from projections.registry import PROJECTIONS
from projections.scim_tokens import view as scim_tokens
from tests.benchmarks.bench import MILLION, MILLION_TOKENS, Bench, Ledger
from tests.benchmarks.result import Row, at_least, at_most
from tests.benchmarks.undisturbed import told, undisturbed

TOKENS: Final = MILLION_TOKENS
EVENTS: Final = MILLION
LIBRARY_TOKENS: Final = 1_000
LIBRARY_USES_EACH: Final = 9

COPY_OUT: Final[LiteralString] = """
    COPY (
        SELECT notification_id, originator_id, originator_version, topic, at, command_id, state
        FROM ledger.events ORDER BY notification_id
    ) TO STDOUT
"""
SIZES: Final[LiteralString] = """
    SELECT pg_total_relation_size('ledger.events'), pg_table_size('ledger.events'),
        (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
            WHERE relnamespace IN ('ledger'::regnamespace, 'views'::regnamespace) AND relkind = 'r')
"""
SIZES_OF_AUDIT: Final = """
    SELECT count(*), pg_table_size('{table}'), pg_indexes_size('{table}') FROM {table}
"""


def projections(bench: Bench) -> Iterator[Row]:
    """A million events, nine tenths of them uses, read by COPY and rebuilt from, in turn."""
    ledger = bench.million
    with psycopg.connect(ledger.database.app, autocommit=True) as connection:
        _rebuild(connection)  # warm, as the copying is
        found, thrown_away = undisturbed(
            lambda: (_timed(lambda: _copy_out(connection)), _timed(lambda: _rebuild(connection))),
            rounds=bench.rounds,
        )
        ratios = [rebuilt_s / copied_s for copied_s, rebuilt_s in found]
        rates = [EVENTS / rebuilt_s for _, rebuilt_s in found]
        what = "rebuild of scim_tokens / COPY TO STDOUT of its events"
        yield Row(what, ratios, at_most(4), note=told(thrown_away))
        events, table, everything = _sizes(connection)
        yield Row("bytes on disk of an event, without its indexes", [table / EVENTS], unit="B")
        yield Row("bytes on disk of an event, with its indexes", [events / EVENTS], unit="B")
        yield Row("bytes on disk of everything, for an event", [everything / EVENTS], unit="B")
        yield Row(
            "bytes on disk of everything, for a token of ten events",
            [everything / TOKENS],
            unit="B",
        )
        row, indexes = _sizes_of_audit(connection)
        yield Row("bytes on disk of an audit row, without its indexes", [row], unit="B")
        yield Row("bytes on disk of an audit row, with its indexes", [row + indexes], unit="B")
    small = bench.new_ledger(
        "projections_of_library", tokens=LIBRARY_TOKENS, uses_each=LIBRARY_USES_EACH
    )
    library = [_library_rate(small) for _ in range(min(3, bench.rounds))]
    factors = [ours / theirs for ours, theirs in zip(rates, library, strict=False)]
    yield Row(
        "rebuild / the library's ProjectionRunner writing the same view", factors, at_least(50)
    )


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _copy_out(connection: Connection) -> None:
    with connection.cursor() as cursor, cursor.copy(COPY_OUT) as copy:
        while copy.read():
            pass


def _rebuild(connection: Connection) -> None:
    rebuild(connection, scim_tokens.PROJECTION)
    drop_old(connection, PROJECTIONS)


def _sizes(connection: Connection) -> tuple[int, int, int]:
    row = connection.execute(SIZES).fetchone()
    assert row is not None
    events, table, everything = row
    return events, table, int(everything)


def _sizes_of_audit(connection: Connection) -> tuple[float, float]:
    """Bytes of one row of the trail, and of its entries in all indexes."""
    live = live_position(connection, audit_trail.PROJECTION)
    assert live is not None
    table = audit_trail.PROJECTION.table(live.version)
    found = connection.execute(SIZES_OF_AUDIT.format(table=table).encode()).fetchone()
    assert found is not None
    rows, of_table, of_indexes = found
    return of_table / rows, of_indexes / rows


class LibraryLedger(Application[UUID]):
    """The library's application on our recorder, for its own runner to read from."""

    name = "ledger"

    def construct_factory(self, env: Any) -> LedgerFactory:  # type: ignore[override]
        """Our tables."""
        return LedgerFactory(env)

    def construct_mapper(self) -> Mapper[UUID]:
        """Our events."""
        return LedgerMapper(REGISTRY)


class LibraryView(PostgresTrackingRecorder):
    """The view's row and the library's tracking, in one transaction an event,
    as its documentation has it.
    """

    VERSION = 900

    def fold(self, recorded: Recorded, tracking: Tracking) -> None:
        """One event: load its row, apply it, store it."""
        projection = scim_tokens.PROJECTION
        entry = LogEntry(
            tracking.notification_id,
            recorded.originator_id,
            recorded.originator_version,
            recorded.event.topic,
            recorded.at,
            recorded.command_id,
            REGISTRY.encode(recorded.event),
        )
        if entry.topic not in projection.topics:
            return
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(projection.select_rows(self.VERSION).encode(), [[entry.originator_id]])
            rows = {row["id"]: projection.row(**row) for row in cursor.fetchall()}
            projection.fold(rows, [entry], REGISTRY)
            values = map(projection.values, rows.values())
            columns = [list(column) for column in zip(*values, strict=True)]
            cursor.execute(projection.put_rows(self.VERSION).encode(), columns)
            self._insert_tracking(cursor, tracking)


class LibraryProjection(Projection[LibraryView]):
    """Hands every event to the view."""

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """One event."""
        self.view.fold(domain_event, tracking)


def _library_rate(ledger: Ledger) -> float:
    """Events a second of the library's runner on a ledger of the same mix,
    from the first to the last.
    """
    projection, owner = scim_tokens.PROJECTION, ledger.database.owner
    table = projection.table(LibraryView.VERSION)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {table}, ledger.library_tracking".encode())
        connection.execute(projection.create_table(LibraryView.VERSION).encode())
        for statement in projection.create_indexes(LibraryView.VERSION):
            connection.execute(statement.encode())
        row = connection.execute(
            "SELECT max(notification_id) FROM ledger.events WHERE topic = ANY(%s)",
            [list(projection.topics)],
        ).fetchone()
    assert row is not None
    with closing(LedgerFactory({LedgerFactory.CONNINFO: owner})) as factory:
        view = LibraryView(factory.datastore, tracking_table_name="library_tracking")
        view.create_table()
        began = time.perf_counter()
        runner = BaseProjectionRunner(
            projection=LibraryProjection(view),
            application_class=LibraryLedger,
            tracking_recorder=view,
            topics=(),
            env={LedgerFactory.CONNINFO: owner},
        )
        with runner:
            runner.wait(row[0], timeout=600)
            return LIBRARY_TOKENS * (1 + LIBRARY_USES_EACH) / (time.perf_counter() - began)
