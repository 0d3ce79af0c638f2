"""The pointer rows: which built version of a view is live, and how far it has come.

A view has one live version per shape: while a release is deployed over another, each reads its own.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from psycopg import Connection
from psycopg.rows import class_row

from domain.postgres.sql_file import statements
from projections.projection import Projection, UnappliableEvent

_SQL: Final = statements("projections.follow", "sql/positions.sql")
ALL: Final = _SQL["all"]
STATES: Final = _SQL["states"]
LIVE_VERSIONS: Final = _SQL["live_versions"]
HOLD: Final = _SQL["hold"]
MOVE: Final = _SQL["move"]
RETRY: Final = _SQL["retry"]
RETIRE: Final = _SQL["retire"]
GO_LIVE: Final = _SQL["go_live"]
LOCK_VERSIONS: Final = _SQL["lock_versions"]
OF_SHAPES_UNTIL: Final = _SQL["of_shapes_until"]
BUILDING: Final = _SQL["building"]


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
        return cursor.execute(ALL, prepare=True).fetchall()


def position_of(connection: Connection, name: str, version: int) -> Position:
    """One version that is live or building."""
    found = [at for at in all_positions(connection) if (at.name, at.version) == (name, version)]
    assert found, f"{name} has no version {version}"
    return found[0]


def live_position(connection: Connection, projection: Projection) -> Position | None:
    """The live version in the shape that this release knows, None where there is none."""
    return live_of(connection, [projection]).get(projection.name)


def is_missing(connection: Connection, table: str) -> bool:
    """Whether a pointer row leads to no table: rows were copied, and the views were not."""
    return connection.execute("SELECT to_regclass(%s)", [table]).fetchone() == (None,)


def live_of(connection: Connection, projections: Collection[Projection]) -> dict[str, Position]:
    """The live versions in the shapes that this release knows, by the view's name: beside one of
    them there is another release's, of an earlier shape or of a later one.
    """
    found = all_positions(connection)
    return {at.name: at for at in found if any(map(at.is_live_of, projections))}


def ensure_live(connection: Connection, projection: Projection) -> None:
    """Make an empty live version of this release's shape where there is none."""
    with connection.transaction():
        connection.execute(LOCK_VERSIONS)
        asked = [projection.name, projection.shape]
        if connection.execute(_SQL["is_live"], asked).fetchone() is None:
            version = next_version(connection, projection)
            create_version(connection, projection, version, role="live")
            for statement in projection.create_indexes(version):
                connection.execute(statement)


def next_version(connection: Connection, projection: Projection) -> int:
    """A number that no version of the view has, while LOCK_VERSIONS is held."""
    row = connection.execute(_SQL["next_version"], {"name": projection.name}).fetchone()
    assert row is not None
    version: int = row[0]
    return version


def create_version(
    connection: Connection, projection: Projection, version: int, *, role: str
) -> None:
    """An empty table without its indexes, and its row. In the caller's transaction."""
    connection.execute(projection.create_table(version))
    connection.execute(_SQL["add"], [projection.name, version, projection.shape, role])


def drop_version(connection: Connection, name: str, version: int) -> None:
    """Take a table and its row away. In the caller's transaction."""
    connection.execute(f"DROP TABLE IF EXISTS views.{name}_v{version}".encode())
    connection.execute(_SQL["remove"], [name, version])


def stop(connection: Connection, position: Position, poison: UnappliableEvent) -> None:
    """Mark a version as stopped at an event that it cannot apply."""
    connection.execute(
        _SQL["stop"],
        [poison.position, poison.reason, position.name, position.version],
    )


def retry(connection: Connection, projection: Projection) -> bool:
    """Let a stopped view try again; whether it was stopped."""
    return connection.execute(RETRY, [projection.name, projection.shape]).rowcount > 0


def now() -> datetime:
    """For lags: how long something waits is told by the clock of whoever asks."""
    return datetime.now(UTC)
