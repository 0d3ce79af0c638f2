"""Fill a version of a view from the ledger in bulk: large reads, COPY in, indexes afterwards.

The fold is the view's own; only the way in and out differs from the runner's batches.
Memory is bounded by READ entries, as many last uses, and ROWS rows, whatever the ledger holds: rows
that change together stay in memory until there are ROWS of them, then they are written and
forgotten, with the position, in one transaction.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from domain.eventstore.event_registry import EventRegistry
from domain.postgres.sql_file import statements
from projections.follow import read_log
from projections.follow.stream_teams import StreamTeams
from projections.follow.view_version import ViewVersion
from projections.kinds.row_per_event import RowPerEvent
from projections.kinds.row_per_key import RowPerKey
from projections.kinds.row_per_stream import RowPerStream
from projections.projection import LogEntry

READ: Final = 10_000
"""Events of one read.

What is written of them at once stays small: commits of the doors wait for it.
"""

ROWS: Final = 250_000
"""Rows in memory between two writes."""

STREAM_TEAMS: Final = 250_000
"""Streams whose team is remembered."""

_SQL: Final = statements("projections.rebuild", "sql/bulk.sql")
_PUT: Final = 10_000


def fill(
    version: ViewVersion,
    *,
    until: int,
    registry: EventRegistry,
    report: Callable[[int], None],
) -> None:
    """Bring a version that was just made from its beginning to `until`,
    which must not be beyond the head.

    The table has no index afterwards, but for the primary key if rows had to be found again: see
    `index`. report: told the position after each read. Whatever it raises is raised, with the
    version where it was written last; so is whatever the fold raises, and UnknownTopic at an event
    that this release does not know.
    """
    connection, projection = version.connection, version.projection
    filling = _Filling(version)
    at = 0
    stream_teams = StreamTeams(max_known=STREAM_TEAMS)
    with _no_collector():
        while at < until:
            before, at = at, min(at + READ, until)
            entries = read_log.read_for(
                connection, projection, after=before, until=at, end=until, known=registry.topics
            )
            if projection.needs_stream_team:
                entries = stream_teams.with_teams(connection, entries)
            projection.fold(filling.rows_for(entries), entries, registry)
            del entries
            if len(filling.rows) >= ROWS or isinstance(projection, RowPerEvent) or at == until:
                filling.write(at)
            report(at)


def index(version: ViewVersion) -> None:
    """Give a filled version its indexes, and the planner its statistics."""
    connection, projection = version.connection, version.projection
    table = projection.table(version.number)
    has_key = connection.execute(_SQL["has_key"], [table]).fetchone()
    connection.execute(_SQL["take_index_memory"])
    for statement in projection.create_indexes(version.number)[0 if has_key is None else 1 :]:
        connection.execute(statement.encode())
    connection.execute("RESET maintenance_work_mem")
    connection.execute(f"ANALYZE {table}".encode())


class _Filling:
    """The rows of a table in the making, as far as they are in memory,
    and what the table holds already.
    """

    def __init__(self, version: ViewVersion) -> None:
        self._version = version
        self.rows: dict[Any, Any] = {}
        self._stored: set[Any] = set()  # keys of rows in memory that the table has too
        self._position = 0
        self._has_key = False

    def rows_for(self, entries: Sequence[LogEntry]) -> dict[Any, Any]:
        """All rows in memory, those that `entries` change among them if there are any."""
        if self._position and isinstance(self._version.projection, RowPerStream):
            self._make_key()
            keys = {entry.originator_id for entry in entries}
            keys = {key for key in keys if key not in self.rows}
            found = self._version.load(keys)
            self._stored |= found.keys()
            self.rows |= found
        return self.rows

    def write(self, position: int) -> None:
        """Store what is in memory, and that the table has come to `position`; forget the rows."""
        if self._position and isinstance(self._version.projection, RowPerKey):
            self._make_key()
            self._stored |= self.rows.keys()  # or may be: it merges with whatever is there
        with self._version.connection.transaction():
            new = [row for key, row in self.rows.items() if key not in self._stored]
            self._version.copy(new)
            for keys in _slices(list(self._stored), _PUT):
                self._version.put([self.rows[key] for key in keys])
            self._version.move(position, after=self._position)
        self.rows.clear()
        self._stored.clear()
        self._position = position

    def _make_key(self) -> None:
        if not self._has_key:
            make_key, *_ = self._version.projection.create_indexes(self._version.number)
            self._version.connection.execute(make_key.encode())
            self._has_key = True


def _slices(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@contextmanager
def _no_collector() -> Iterator[None]:
    """Rows by the hundred thousand and not a cycle among them:
    the collector took half of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
