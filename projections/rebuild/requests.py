"""Requests for rebuilds, and their progress (`ledger.projection_rebuilds`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import Connection
from psycopg.rows import class_row

from domain.postgres.sql_file import statements
from projections.projection import Projection

_SQL: Final = statements("projections.rebuild", "sql/requests.sql")
REQUEST: Final = _SQL["request"]
LATEST: Final = _SQL["latest"]
LATEST_OF_EACH: Final = _SQL["latest_of_each"]


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One rebuild, as its row tells it.

    state: requested, building, indexing, comparing, switching; done or failed. version: the new
    one's number. position, target: last event applied and last event of the ledger, when it was
    reported.
    """

    name: str
    state: str
    version: int | None
    position: int
    target: int
    error: str | None
    accepts_difference: bool
    requested_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None

    @property
    def events_per_s(self) -> float | None:
        """Since it began, None when it has not."""
        if self.started_at is None or not self.position:
            return None
        elapsed_s = (self.updated_at - self.started_at).total_seconds()
        return self.position / elapsed_s if elapsed_s else None

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the present rate, None when nobody knows or it is over."""
        rate = self.events_per_s
        if rate is None or self.finished_at is not None:
            return None
        return max(0, self.target - self.position) / rate


def request(
    connection: Connection, projection: Projection, *, accepts_difference: bool = False
) -> bool:
    """Ask for a rebuild; False when one is asked for or under way already."""
    asked = [projection.name, projection.shape, accepts_difference]
    return connection.execute(REQUEST, asked).rowcount == 1


def accept_differences(connection: Connection) -> None:
    """Let every rebuild that is asked for or under way switch whatever the comparison finds."""
    connection.execute(_SQL["accept_differences"])


def latest(connection: Connection, projection: Projection) -> Rebuild | None:
    """The last rebuild of a view, None when there was none."""
    with connection.cursor(row_factory=class_row(Rebuild)) as cursor:
        return cursor.execute(LATEST, [projection.name, projection.shape]).fetchone()


def underway(connection: Connection, projections: Sequence[Projection]) -> list[Projection]:
    """The views of this release for which a rebuild is asked for or under way, the oldest first."""
    known = {(each.name, each.shape): each for each in projections}
    rows = connection.execute(_SQL["underway"], prepare=True).fetchall()
    return [known[name, shape] for name, shape in rows if (name, shape) in known]


class RebuildRow:
    """The row of one rebuild while it runs; used by whoever holds the view's rebuild lock."""

    def __init__(
        self, connection: Connection, projection: Projection, *, accepts_difference: bool
    ) -> None:
        self._connection = connection
        asked = [projection.name, projection.shape, accepts_difference]
        row = connection.execute(_SQL["begin"], asked).fetchone()
        assert row is not None
        self._id: int = row[0]
        self.accepts_difference: bool = row[1]

    def progress(self, state: str, version: int, position: int, target: int) -> None:
        """How far it is."""
        self._connection.execute(_SQL["progress"], [state, version, position, target, self._id])

    def finish(self, error: str | None = None) -> None:
        """It is over; error: one line, without data of events, None when it went well."""
        self._connection.execute(_SQL["finish"], {"error": error, "id": self._id})
