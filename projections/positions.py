"""The pointer rows: which built version of a view is live, and how far it has come."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from psycopg import Connection
from psycopg.rows import class_row

from projections.projection import Projection, UnappliableEvent

SELECT: Final[LiteralString] = """
    SELECT name, version, shape, position, role, stopped_at, error, updated_at,
        coalesce((SELECT max(notification_id) FROM ledger.events), 0) AS head
    FROM ledger.projection_positions WHERE role <> 'retired' ORDER BY name, version
"""

MOVE: Final[LiteralString] = """
    UPDATE ledger.projection_positions SET position = %s, updated_at = now()
    WHERE name = %s AND version = %s AND position = %s AND role = %s
"""
"""Guards exactly-once: a second runner, or a switch meanwhile, finds no row to move and rolls back."""


@dataclass(frozen=True, slots=True)
class Position:
    """One built version of a view.

    position: last event applied. head: last event of the ledger. stopped_at, error: the event that could not
    be applied and why, None while it runs.
    """

    name: str
    version: int
    shape: int
    position: int
    role: str
    stopped_at: int | None
    error: str | None
    updated_at: datetime
    head: int

    @property
    def lag(self) -> int:
        """Events not applied yet (an upper bound: ids have gaps)."""
        return self.head - self.position

    @property
    def state(self) -> str:
        """For people: stopped, building, or live."""
        return "stopped" if self.stopped_at is not None else self.role


def all_positions(connection: Connection) -> list[Position]:
    """Every version that is live or building."""
    with connection.cursor(row_factory=class_row(Position)) as cursor:
        return cursor.execute(SELECT).fetchall()


def position_of(connection: Connection, name: str, version: int) -> Position:
    """One version that is live or building."""
    found = [at for at in all_positions(connection) if (at.name, at.version) == (name, version)]
    assert found, f"{name} has no version {version}"
    return found[0]


def ensure_live(connection: Connection, projection: Projection) -> None:
    """Make the first version of a view where there is none."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(7239075816)")
        known = connection.execute(
            "SELECT 1 FROM ledger.projection_positions WHERE name = %s", [projection.name]
        ).fetchone()
        if known is None:
            create_version(connection, projection, 1, role="live")


def create_version(connection: Connection, projection: Projection, version: int, *, role: str) -> None:
    """An empty table with its indexes, and its row. In the caller's transaction."""
    connection.execute(projection.create_table(version))
    for statement in projection.create_indexes(version):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO ledger.projection_positions (name, version, shape, role) VALUES (%s, %s, %s, %s)",
        [projection.name, version, projection.shape, role],
    )


def stop(connection: Connection, position: Position, poison: UnappliableEvent) -> None:
    """Mark a version as stopped at an event that it cannot apply."""
    connection.execute(
        "UPDATE ledger.projection_positions SET stopped_at = %s, error = %s, updated_at = now() "
        "WHERE name = %s AND version = %s",
        [poison.position, poison.reason, position.name, position.version],
    )
