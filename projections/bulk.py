"""Filling a version of a view from a long stretch of the log: few large reads, COPY in, indexes afterwards.

The fold is the view's own `apply`; only the way in and out differs from the runner's batches. Memory is
bounded by READ entries and ROWS rows, whatever the ledger holds: rows that change together stay in memory
until there are ROWS of them, then they are written and forgotten, with the position, in one transaction. Of a
row that was written, an entry that only touches it stays in memory until then, not the row.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, LiteralString

from psycopg import Connection, sql

from domain.eventstore.registry import EventRegistry
from projections import log
from projections.apply import load, move, put, split, touch
from projections.owners import Owners
from projections.projection import LogEntry, Projection

READ: Final = 50_000
"""Events of one read, all of them entries of the fold."""

READ_LAST_ONLY: Final = 500_000
"""Events of one read where the database leaves out what a later one makes void."""

ROWS: Final = 250_000
"""Rows in memory between two writes; an entry that waits to touch one counts half."""

OWNERS: Final = 250_000
"""Owners of streams that are remembered."""

INDEX_MEMORY: Final[LiteralString] = """
    SELECT set_config(name, greatest(setting::int, 256 * 1024) || 'kB', false)
    FROM pg_settings WHERE name = 'maintenance_work_mem'
"""
"""Of the database, while an index is made: a million keys are sorted without a file."""

_PUT: Final = 10_000

Report = Callable[[int], None]
"""Told the position after each read. May raise: then what was written last is where it stands."""


def fill(
    connection: Connection,
    projection: Projection,
    version: int,
    *,
    until: int,
    registry: EventRegistry,
    report: Report,
) -> None:
    """Bring a version that was just made from its beginning to `until`, which must not be beyond the head.

    The table has no index afterwards, but for the primary key if rows had to be found again: see `index`.
    Whatever the fold raises is raised.
    """
    filling = _Filling(connection, projection, version)
    step = READ_LAST_ONLY if projection.last_only else READ
    at = 0
    owners = Owners(max_known=OWNERS)
    with _no_collector():
        while at < until:
            before, at = at, min(at + step, until)
            entries = log.read_for(connection, projection, after=before, until=at)
            if projection.is_owned:
                entries = owners.told(connection, entries)
            filling.fold(entries, registry)
            del entries
            if filling.size >= ROWS or projection.is_append_only or at == until:
                filling.write(at)
            report(at)


def index(connection: Connection, projection: Projection, version: int) -> None:
    """Give a filled version its indexes, and the planner its statistics."""
    table = projection.table(version)
    has_key = connection.execute(
        "SELECT 1 FROM pg_index WHERE indrelid = %s::regclass AND indisprimary", [table]
    ).fetchone()
    connection.execute(INDEX_MEMORY)
    for statement in projection.create_indexes(version)[0 if has_key is None else 1 :]:
        connection.execute(statement.encode())
    connection.execute("RESET maintenance_work_mem")
    connection.execute(f"ANALYZE {table}".encode())


class _Filling:
    """The rows of a table in the making, as far as they are in memory, and what the table holds already."""

    def __init__(self, connection: Connection, projection: Projection, version: int) -> None:
        self._connection = connection
        self._projection = projection
        self._version = version
        self._rows: dict[Any, list[Any]] = {}
        self._stored: set[Any] = set()  # keys of rows in memory that the table has too
        self._touching: dict[Any, LogEntry] = {}  # of rows that only the table has
        self._position = 0
        self._has_key = False

    @property
    def size(self) -> float:
        """What is in memory, counted in rows."""
        return len(self._rows) + len(self._touching) / 2

    def fold(self, entries: list[LogEntry], registry: EventRegistry) -> None:
        """Take in the next entries."""
        if self._position and self._projection.merge is None:
            entries = self._set_aside(entries)
            self._load({self._projection.key(entry) for entry in entries} - self._rows.keys())
        self._projection.apply(self._rows, entries, registry)

    def _set_aside(self, entries: list[LogEntry]) -> list[LogEntry]:
        """What has to be folded now: not what only touches a row of the table, which need not be loaded."""
        entries, touching = split(self._projection, entries)
        entries += [touching.pop(key) for key in touching.keys() & self._rows.keys()]
        changed = {self._projection.key(entry) for entry in entries}
        waited = [self._touching.pop(key) for key in changed & self._touching.keys()]
        self._touching |= touching
        return waited + entries

    def _load(self, keys: set[Any]) -> None:
        self._make_key()
        found = load(self._connection, self._projection, self._version, keys)
        self._stored |= found.keys()
        self._rows |= found

    def write(self, position: int) -> None:
        """Store what is in memory, and that the table has come to `position`; forget the rows."""
        if self._position and self._projection.merge is not None and not self._projection.is_append_only:
            self._make_key()
            self._stored |= self._rows.keys()  # or may be: it merges with whatever is there
        with self._connection.transaction():
            new = [row for key, row in self._rows.items() if key not in self._stored]
            _copy(self._connection, self._projection, self._version, new)
            for keys in _slices(list(self._stored), _PUT):
                put(self._connection, self._projection, self._version, {key: self._rows[key] for key in keys})
            for keys in _slices(list(self._touching), _PUT):
                touching = {key: self._touching[key] for key in keys}
                touch(self._connection, self._projection, self._version, touching)
            move(
                self._connection,
                self._projection,
                self._version,
                position,
                after=self._position,
                role="building",
            )
        self._rows.clear()
        self._stored.clear()
        self._touching.clear()
        self._position = position

    def _make_key(self) -> None:
        if not self._has_key:
            self._connection.execute(self._projection.create_indexes(self._version)[0].encode())
            self._has_key = True


def _copy(connection: Connection, projection: Projection, version: int, rows: Iterable[list[Any]]) -> None:
    table = sql.Identifier("views", f"{projection.name}_v{version}")
    types = connection.execute(
        "SELECT atttypid FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        [projection.table(version)],
    ).fetchall()
    derive = projection.derive if projection.stored < len(projection.columns) else None
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(table)) as copy,
    ):
        copy.set_types([oid for (oid,) in types])
        for row in rows:
            copy.write_row(row if derive is None else [*row, *derive(row)])


def _slices(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@contextmanager
def _no_collector() -> Iterator[None]:
    """Rows by the hundred thousand and not a cycle among them: the collector took half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
