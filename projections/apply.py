"""Applying one batch to one version of a view: rows and position in one transaction."""

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from domain.eventstore.registry import EventRegistry
from projections import positions
from projections.projection import LogEntry, Projection, UnappliableEvent


class PositionMoved(Exception):
    """Somebody else moved or switched this version meanwhile; nothing was applied."""


def apply_batch(
    connection: Connection,
    projection: Projection,
    version: int,
    entries: Sequence[LogEntry],
    *,
    after: int,
    registry: EventRegistry,
    role: str = "live",
) -> None:
    """Fold `entries` (non-empty, in order, the first one after `after`) and move the position to the last.

    Raises UnappliableEvent when one cannot be applied: those before it are, then. PositionMoved when the
    position is not `after` any more.
    """
    mine = [entry for entry in entries if entry.topic in projection.topics]
    poison: Exception | None = None
    with connection.transaction():
        rows = _load(connection, projection, version, mine)
        try:
            projection.apply(rows, mine, registry)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to an event: find which
            poison = _first_unappliable(connection, projection, version, mine, registry) or error
        else:
            _put(connection, projection, version, rows)
            _move(connection, projection, version, entries[-1].position, after=after, role=role)
    if poison is not None:
        if not isinstance(poison, UnappliableEvent):
            raise poison
        good = [entry for entry in entries if entry.position < poison.position]
        if good:
            apply_batch(connection, projection, version, good, after=after, registry=registry, role=role)
        raise poison


def _load(
    connection: Connection, projection: Projection, version: int, entries: Sequence[LogEntry]
) -> dict[Any, list[Any]]:
    keys = list({projection.key(entry) for entry in entries})
    if not keys:
        return {}
    with connection.cursor(binary=True) as cursor:
        cursor.execute(projection.select_rows(version), [keys], prepare=True)
        return {row[0]: list(row) for row in cursor}


def _put(connection: Connection, projection: Projection, version: int, rows: dict[Any, list[Any]]) -> None:
    if not rows:
        return
    full = [[*row, *projection.derive(row)] for row in rows.values()]
    columns = [list(column) for column in zip(*full, strict=True)]
    connection.execute(projection.put_rows(version), columns, prepare=True)


def _move(
    connection: Connection, projection: Projection, version: int, position: int, *, after: int, role: str
) -> None:
    moved = connection.execute(
        positions.MOVE, [position, projection.name, version, after, role], prepare=True
    )
    if moved.rowcount != 1:
        raise PositionMoved(projection.name)


def _first_unappliable(
    connection: Connection,
    projection: Projection,
    version: int,
    entries: Sequence[LogEntry],
    registry: EventRegistry,
) -> UnappliableEvent | None:
    rows = _load(connection, projection, version, entries)
    for entry in entries:
        try:
            projection.apply(rows, [entry], registry)
        except Exception as error:  # noqa: BLE001 - this is the one
            return UnappliableEvent(entry.position, f"{type(error).__name__} on a {entry.topic}")
    return None
