"""Rebuilding a view while the old one serves: position 0, a new table, catch-up, an atomic switch.

It is the ordinary fold, started from the beginning. Interrupted, the half-built version is dropped by the
next rebuild; it was never visible.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from psycopg import Connection, sql

from domain.errors import LedgerError
from domain.eventstore.registry import REGISTRY, EventRegistry
from projections import log, positions
from projections.apply import apply_batch
from projections.projection import Projection

BATCH: Final = 20_000
_LOCK_CLASS: Final = 723907582


class RebuildUnderway(LedgerError):
    """The view is being rebuilt already."""


@dataclass(frozen=True, slots=True)
class Progress:
    """position: last event applied. head: last event of the ledger when this was reported."""

    position: int
    head: int


def rebuild(
    connection: Connection,
    projection: Projection,
    *,
    registry: EventRegistry = REGISTRY,
    report: Callable[[Progress], None] = lambda _: None,
) -> int:
    """Build a new version of a view and switch to it; returns its number.

    connection: autocommit, the app role. Raises RebuildUnderway, UnappliableEvent.
    """
    locked = connection.execute(
        "SELECT pg_try_advisory_lock(%s, hashtext(%s))", [_LOCK_CLASS, projection.name]
    ).fetchone()
    if locked != (True,):
        raise RebuildUnderway(f"the view {projection.name} is being rebuilt already")
    try:
        _drop_unfinished(connection, projection)
        version = _begin(connection, projection)
        while not _switch(connection, projection, version):
            _catch_up(connection, projection, version, registry, report)
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [_LOCK_CLASS, projection.name])
    return version


def _begin(connection: Connection, projection: Projection) -> int:
    with connection.transaction():
        row = connection.execute(
            "SELECT coalesce(max(version), 0) + 1 FROM ledger.projection_positions WHERE name = %s",
            [projection.name],
        ).fetchone()
        assert row is not None
        version: int = row[0]
        positions.create_version(connection, projection, version, role="building")
    return version


def _catch_up(
    connection: Connection,
    projection: Projection,
    version: int,
    registry: EventRegistry,
    report: Callable[[Progress], None],
) -> None:
    while True:
        at = positions.position_of(connection, projection.name, version)
        report(Progress(at.position, at.head))
        entries = log.read(connection, after=at.position, limit=BATCH)
        if not entries:
            return
        apply_batch(
            connection, projection, version, entries, after=at.position, registry=registry, role="building"
        )


def _switch(connection: Connection, projection: Projection, version: int) -> bool:
    """Make the new version the live one, if it has come as far as the old. Readers see one or the other."""
    with connection.transaction():
        rows = connection.execute(
            "SELECT version, position FROM ledger.projection_positions "
            "WHERE name = %s AND (role = 'live' OR version = %s) ORDER BY version FOR UPDATE",
            [projection.name, version],
        ).fetchall()
        reached: dict[int, int] = dict(rows)
        if any(reached[version] < position for position in reached.values()):
            return False
        connection.execute(
            "UPDATE ledger.projection_positions SET role = 'retired' WHERE name = %s AND role = 'live'",
            [projection.name],
        )
        connection.execute(
            "UPDATE ledger.projection_positions SET role = 'live', updated_at = now() "
            "WHERE name = %s AND version = %s",
            [projection.name, version],
        )
    return True


def _drop_unfinished(connection: Connection, projection: Projection) -> None:
    with connection.transaction():
        unfinished = connection.execute(
            "DELETE FROM ledger.projection_positions WHERE name = %s AND role = 'building' RETURNING version",
            [projection.name],
        ).fetchall()
        for (version,) in unfinished:
            table = sql.Identifier("views", f"{projection.name}_v{version}")
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
