"""The steps of a rebuild: fill, catch up, compare, switch.

The comparison stops nobody: in one snapshot the live version is digested at some position, then the
new one is brought to exactly that position and digested too. The tail since then is applied by the
switch.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psycopg
import structlog
from psycopg import Connection

from domain.errors import LedgerError
from domain.eventstore.event_registry import EventRegistry
from projections.faults import is_of_the_store, told
from projections.follow import positions, read_log
from projections.follow.apply import BatchApplier
from projections.follow.view_version import ViewVersion
from projections.projection import Projection, UnappliableEvent
from projections.rebuild import bulk
from projections.rebuild.compare import Difference, Unreadable, digest, first_difference, unreadable
from projections.rebuild.requests import RebuildRow

BATCH: Final = 5000
TAIL: Final = 500
"""So few events may be left when the switch holds the live version still."""

_TELL_EVERY_S: Final = 0.5

logger = structlog.get_logger()


class ViewsDiffer(LedgerError):
    """The new version does not hold what the live one holds; the live one was kept.

    difference: the first row that differs.
    """

    def __init__(self, difference: Difference) -> None:
        super().__init__(f"{difference}; the view was not switched")
        self.difference = difference


class Interrupted(Exception):
    """Raised by a report to stop a rebuild that shall be taken up again,
    by this process or by another.
    """


@dataclass(frozen=True, slots=True)
class Progress:
    """state: building, indexing, comparing, switching.

    position: last event applied. head: of the ledger.
    """

    state: str
    position: int
    head: int


Report = Callable[[Progress], None]


class Rebuilding:
    """One rebuild under way.

    row: None for a verification, which nobody asked for through the database.
    """

    def __init__(
        self,
        connection: Connection,
        projection: Projection,
        registry: EventRegistry,
        report: Report,
        row: RebuildRow | None,
    ) -> None:
        self._connection = connection
        self._projection = projection
        self._registry = registry
        self._report = report
        self._row = row
        self._applier = BatchApplier(registry)
        self._version: ViewVersion
        self._state = ""
        self._told_at = 0.0

    def run(self) -> int:
        """All of it; returns the number of the version that is live now."""
        assert self._row is not None
        self.build()
        difference = self.compare()
        if isinstance(difference, Unreadable):
            logger.warning(
                "projections.not_compared", name=self._projection.name, reason=difference.what
            )
        elif difference is not None and not self._row.accepts_difference:
            raise ViewsDiffer(difference)
        self._tell("switching", self._position())
        while not self._switch():
            self._catch_up()
        return self._version.number

    def build(self) -> None:
        """A version that has come as far as the live one."""
        self._begin()
        try:
            bulk.fill(
                self._version,
                until=self._target(),
                registry=self._registry,
                report=lambda at: self._tell("building", at),
            )
        except Exception as error:
            if isinstance(error, Interrupted | UnappliableEvent) or is_of_the_store(error):
                raise
            # The fold raised somewhere in a long stretch. The ordinary way finds out where, and
            # says so.
            logger.warning(
                "projections.bulk_failed", name=self._projection.name, error=type(error).__name__
            )
            self._begin()
        self._tell("indexing", self._position())
        bulk.index(self._version)
        self._catch_up()

    def compare(self) -> Difference | Unreadable | None:
        """The first row in which the live version, at the same position, is another than ours.

        None also where there is no live version of this shape to compare with; Unreadable where
        there is but its table cannot be compared.
        """
        connection, projection = self._connection, self._projection
        self._tell("comparing", self._position())
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            live = positions.live_position(connection, projection)
            if live is None:
                return None
            expected = self._digest_of_live(live.version)
        if isinstance(expected, Unreadable):
            return expected
        self._apply_until(live.position)
        if digest(connection, projection, self._version.number) == expected:
            return None
        return self._first_difference(live.version)

    def _first_difference(self, live: int) -> Difference | None:
        """The same of rows that differ: in a snapshot that has both versions at one position, for
        it takes as long as both are large. The live one is held for no longer than to get there.
        """
        connection, projection = self._connection, self._projection
        while True:
            self._catch_up()
            with connection.transaction():
                held = self._lock_versions()
                self._apply_until(max(held.values()))
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                at = positions.position_of(connection, projection.name, live).position
                if at == held[live]:  # it has not gone on meanwhile
                    return first_difference(connection, projection, live, self._version.number)
            self._tell("comparing", self._position())

    def _digest_of_live(self, live: int) -> str | Unreadable:
        connection, projection = self._connection, self._projection
        damage = unreadable(connection, projection, live, self._version.number)
        if damage is not None:
            return damage
        try:
            with connection.transaction():
                return digest(connection, projection, live)
        except psycopg.Error as error:
            if is_of_the_store(error):
                raise
            return Unreadable(
                projection.name, f"{projection.table(live)} cannot be read ({told(error)})"
            )

    def _begin(self) -> None:
        drop_unfinished(self._connection, self._projection)
        with self._connection.transaction():
            self._connection.execute(positions.LOCK_VERSIONS)
            number = positions.next_version(self._connection, self._projection)
            positions.create_version(self._connection, self._projection, number, role="building")
        self._version = ViewVersion(self._connection, self._projection, number, "building")
        self._tell("building", 0)

    def _target(self) -> int:
        """How far to go: never beyond the live version, with which ours will be compared; nor
        beyond the ledger, should that one be damaged in this way.
        """
        live = positions.live_position(self._connection, self._projection)
        head = read_log.head(self._connection)
        return head if live is None else min(live.position, head)

    def _position(self) -> int:
        return positions.position_of(
            self._connection, self._projection.name, self._version.number
        ).position

    def _catch_up(self) -> None:
        """Until so little is left that the switch may do it while the live version waits."""
        while True:
            target = self._target()
            if target - self._apply_until(target) <= TAIL and self._target() - target <= TAIL:
                return

    def _apply_until(self, until: int) -> int:
        """The ordinary way, to exactly `until` if there is an event; returns where that has led."""
        at = self._position()
        while at < until:
            entries = read_log.read(self._connection, after=at, limit=BATCH, until=until)
            if not entries:
                break
            self._applier.apply(self._version, entries, after=at)
            at = entries[-1].position
            if self._connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                self._tell(self._state, at)
        return at

    def _lock_versions(self) -> dict[int, int]:
        """Positions by version: ours, and the live one's,
        which stays there for this transaction.
        """
        name, shape = self._projection.name, self._projection.shape
        return dict(
            self._connection.execute(positions.HOLD, [name, self._version.number, shape]).fetchall()
        )

    def _switch(self) -> bool:
        """Make our version the live one, if little is left to apply.

        Readers see one or the other.
        """
        name, shape = self._projection.name, self._projection.shape
        assert self._row is not None
        with self._connection.transaction():
            self._connection.execute("SET LOCAL lock_timeout = '5s'")
            reached = self._lock_versions()
            target = min(max(reached.values()), read_log.head(self._connection))
            if target - reached[self._version.number] > TAIL:
                return False
            self._apply_until(target)
            self._connection.execute(positions.RETIRE, [name, shape])
            self._connection.execute(positions.GO_LIVE, [name, self._version.number])
            self._row.progress(
                "switching", self._version.number, target, read_log.head(self._connection)
            )
            self._row.finish()
        return True

    def _tell(self, state: str, position: int) -> None:
        now, head = time.monotonic(), read_log.head(self._connection)
        is_due = state != self._state or now - self._told_at >= _TELL_EVERY_S
        if is_due and self._row is not None:
            self._row.progress(state, self._version.number, position, head)
        if is_due:
            self._state, self._told_at = state, now
        self._report(Progress(state, position, head))


def drop_unfinished(connection: Connection, projection: Projection) -> None:
    """Take away what an interrupted rebuild of the view has left behind."""
    with connection.transaction():
        for (version,) in connection.execute(
            positions.BUILDING, [projection.name, projection.shape]
        ).fetchall():
            positions.drop_version(connection, projection.name, version)
