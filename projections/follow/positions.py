"""The pointer rows: which built version of a view is live, and how far it has come.

A view has one live version per shape: while a release is deployed over another, each reads its own.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, LiteralString

from psycopg import Connection
from psycopg.rows import class_row

from projections.projection import Projection, UnappliableEvent

SELECT: Final[LiteralString] = """
    SELECT p.name, version, shape, position, role, stopped_at, error, updated_at,
        coalesce((SELECT max(notification_id) FROM ledger.events), 0) AS head,
        (SELECT e.at FROM ledger.events e WHERE e.notification_id > p.position
            ORDER BY e.notification_id LIMIT 1) AS waiting_since
    FROM ledger.projection_positions p WHERE role <> 'retired' ORDER BY name, version
"""
"""One statement, so one snapshot; the last two columns by the index on notification_id."""

MOVE: Final[LiteralString] = """
    UPDATE ledger.projection_positions SET position = %s, updated_at = now()
    WHERE name = %s AND version = %s AND position = %s AND role = %s
"""
"""Guards exactly-once: a second runner, or a switch meanwhile,
finds no row to move and rolls back.
"""

RETRY: Final[LiteralString] = """
    UPDATE ledger.projection_positions SET stopped_at = NULL, error = NULL, updated_at = now()
    WHERE name = %s AND shape = %s AND role = 'live' AND stopped_at IS NOT NULL
"""
"""Lets a stopped view try its event again; one that cannot be applied stops it again."""

_NEXT_VERSION: Final[LiteralString] = """
    SELECT 1 + greatest(
        (SELECT max(version) FROM ledger.projection_positions WHERE name = %(name)s),
        (SELECT max(substring(relname FROM '[0-9]+$')::int) FROM pg_class
            WHERE relnamespace = 'views'::regnamespace
                AND relname ~ ('^' || %(name)s || '_v[0-9]{1,6}$')),
        0
    )
"""
"""Beyond every row, and every table that somebody has left without one."""

LOCK_VERSIONS: Final[LiteralString] = "SELECT pg_advisory_xact_lock(7239075816)"
"""Held while a version gets its number or loses its table."""


@dataclass(frozen=True, slots=True)
class Position:
    """One built version of a view.

    position: last event applied. head: last event of the ledger. stopped_at, error: the event that
    could not be applied and why, None while it runs. waiting_since: instant of the first event not
    applied.
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
    waiting_since: datetime | None

    @property
    def lag(self) -> int:
        """Events not applied yet (an upper bound: ids have gaps)."""
        return self.head - self.position

    @property
    def state(self) -> str:
        """For people: stopped, building, or live."""
        return "stopped" if self.stopped_at is not None else self.role

    def is_live_of(self, projection: Projection) -> bool:
        """Whether readers of this release's shape of the view are answered from here."""
        return (self.name, self.shape, self.role) == (projection.name, projection.shape, "live")

    def lag_s(self, now: datetime) -> float:
        """How long the first event not applied has waited, in seconds."""
        return (
            0.0
            if self.waiting_since is None
            else max(0.0, (now - self.waiting_since).total_seconds())
        )


def all_positions(connection: Connection) -> list[Position]:
    """Every version that is live or building."""
    with connection.cursor(row_factory=class_row(Position)) as cursor:
        return cursor.execute(SELECT, prepare=True).fetchall()


def position_of(connection: Connection, name: str, version: int) -> Position:
    """One version that is live or building."""
    found = [at for at in all_positions(connection) if (at.name, at.version) == (name, version)]
    assert found, f"{name} has no version {version}"
    return found[0]


def live_position(connection: Connection, projection: Projection) -> Position | None:
    """The live version in the shape that this release knows, None where there is none."""
    return next((at for at in all_positions(connection) if at.is_live_of(projection)), None)


def ensure_live(connection: Connection, projection: Projection) -> None:
    """Make an empty live version of this release's shape where there is none."""
    with connection.transaction():
        connection.execute(LOCK_VERSIONS)
        known = connection.execute(
            "SELECT 1 FROM ledger.projection_positions WHERE name = %s AND shape = %s "
            "AND role = 'live'",
            [projection.name, projection.shape],
        ).fetchone()
        if known is None:
            version = next_version(connection, projection)
            create_version(connection, projection, version, role="live")
            for statement in projection.create_indexes(version):
                connection.execute(statement)


def next_version(connection: Connection, projection: Projection) -> int:
    """A number that no version of the view has, while LOCK_VERSIONS is held."""
    row = connection.execute(_NEXT_VERSION, {"name": projection.name}).fetchone()
    assert row is not None
    version: int = row[0]
    return version


def create_version(
    connection: Connection, projection: Projection, version: int, *, role: str
) -> None:
    """An empty table without its indexes, and its row. In the caller's transaction."""
    connection.execute(projection.create_table(version))
    connection.execute(
        "INSERT INTO ledger.projection_positions (name, version, shape, role) "
        "VALUES (%s, %s, %s, %s)",
        [projection.name, version, projection.shape, role],
    )


def drop_version(connection: Connection, name: str, version: int) -> None:
    """Take a table and its row away. In the caller's transaction."""
    connection.execute(f"DROP TABLE IF EXISTS views.{name}_v{version}".encode())
    connection.execute(
        "DELETE FROM ledger.projection_positions WHERE name = %s AND version = %s", [name, version]
    )


def stop(connection: Connection, position: Position, poison: UnappliableEvent) -> None:
    """Mark a version as stopped at an event that it cannot apply."""
    connection.execute(
        "UPDATE ledger.projection_positions SET stopped_at = %s, error = %s, updated_at = now() "
        "WHERE name = %s AND version = %s",
        [poison.position, poison.reason, position.name, position.version],
    )


def retry(connection: Connection, projection: Projection) -> bool:
    """Let a stopped view try again; whether it was stopped."""
    return connection.execute(RETRY, [projection.name, projection.shape]).rowcount > 0


def now() -> datetime:
    """For lags: how long something waits is told by the clock of whoever asks."""
    return datetime.now(UTC)
