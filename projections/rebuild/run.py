"""Rebuild a view while the old one serves: fill, catch up, compare, switch.

It is the view's own fold, started from the beginning. Whoever rebuilds holds an advisory lock of
the view and shape for as long as its connection lives. Interrupted, the half-built version is
dropped by the next rebuild, which starts over; it was never visible, and rows and position of each
write are one transaction.

The comparison stops nobody: in one snapshot the live version is digested at some position, then the
new one is brought to exactly that position and digested too. The tail since then is applied by the
switch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psycopg
import structlog
from psycopg import Connection

from domain.errors import AlreadyUnderway, LedgerError
from domain.eventstore.event_registry import REGISTRY, EventRegistry
from domain.postgres.connection import configure
from domain.postgres.session import REBUILDING
from projections.faults import is_of_the_store, told
from projections.follow import locks, positions
from projections.follow import read_log as log
from projections.follow.apply import apply_batch
from projections.follow.stream_teams import StreamTeams
from projections.projection import Projection, UnappliableEvent
from projections.rebuild import bulk
from projections.rebuild import requests as rebuild_requests
from projections.rebuild.compare import Difference, Unreadable, digest, first_difference, unreadable
from projections.rebuild.requests import RebuildRow

BATCH: Final = 5000
TAIL: Final = 500
"""So few events may be left when the switch holds the live version still."""

BULK_FROM: Final = 20_000
"""A view of a ledger that is longer is made by a rebuild, not by the runner's batches."""

_TELL_EVERY_S: Final = 0.5

logger = structlog.get_logger()


class RebuildUnderway(AlreadyUnderway):
    """The view is being rebuilt or verified already."""


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


def _never() -> bool:
    return False


def rebuild(
    connection: Connection,
    projection: Projection,
    *,
    registry: EventRegistry = REGISTRY,
    report: Report = lambda _: None,
    accepts_difference: bool = False,
) -> int:
    """Build a new version of a view and switch to it; returns its number.

    connection: autocommit, the app role. accepts_difference: switch even where the new rows differ
    from the live ones, to repair a damaged view. Where the live version's table is missing or
    another one than its shape says, there is nothing to compare with: that is told in the log, and
    the view switched. Raises RebuildUnderway, UnappliableEvent, ViewsDiffer; and what `report`
    raises.
    """
    with _sole(connection, projection):
        return _rebuild(
            connection, projection, registry, report, _never, accepts_difference=accepts_difference
        )


def take_up(
    connection: Connection,
    projection: Projection,
    *,
    registry: EventRegistry = REGISTRY,
    should_stop: Callable[[], bool] = _never,
) -> int | None:
    """Carry out the rebuild that was asked for or left behind;
    None when somebody has done it meanwhile.

    should_stop: asked at each step, and when a statement was cancelled. Raises as `rebuild`;
    Interrupted when told to stop.
    """
    with _sole(connection, projection):
        if not rebuild_requests.underway(connection, [projection]):
            return None
        return _rebuild(
            connection,
            projection,
            registry,
            _stopping(should_stop),
            should_stop,
            accepts_difference=False,
        )


def _stopping(should_stop: Callable[[], bool]) -> Report:
    def report(_: Progress) -> None:
        if should_stop():
            raise Interrupted

    return report


def _rebuild(
    connection: Connection,
    projection: Projection,
    registry: EventRegistry,
    report: Report,
    should_stop: Callable[[], bool],
    *,
    accepts_difference: bool,
) -> int:
    row = RebuildRow(connection, projection, accepts_difference=accepts_difference)
    try:
        version = _Rebuilding(connection, projection, registry, report, row).run()
    except Interrupted:  # it stays asked for
        raise
    except BaseException as error:
        # Whoever tells us to stop cancels what we wait for. Cancelled by anybody else, or by a
        # limit of time, it has failed: taken up again, it would be cancelled again, for ever.
        if isinstance(error, psycopg.errors.QueryCanceled) and should_stop():
            raise Interrupted from error
        with suppress(psycopg.Error):
            _drop_unfinished(connection, projection)
        # Gone with its connection, the row stays open: whoever takes it up starts over.
        with suppress(psycopg.Error):
            row.finish(error=_told(error))
        raise
    logger.info("projections.rebuilt", name=projection.name, version=version)
    return version


def verify(
    connection: Connection,
    projection: Projection,
    *,
    registry: EventRegistry = REGISTRY,
    report: Report = lambda _: None,
) -> Difference | Unreadable | None:
    """Fold a view anew beside the live version and compare; the live version is left as it is.

    Raises RebuildUnderway; UnappliableEvent also where the live version equals ours but has
    stopped.
    """
    with _sole(connection, projection):
        try:
            building = _Rebuilding(connection, projection, registry, report, None)
            building.build()
            found = building.compare()
            live = positions.live_position(connection, projection)
            if found is None and live is not None and live.stopped_at is not None:
                raise UnappliableEvent(live.stopped_at, live.error or "the view has stopped")
            return found
        finally:
            with suppress(psycopg.Error):
                _drop_unfinished(connection, projection)


def prepare(connection: Connection, projection: Projection) -> None:
    """See to it that there is a live version of this release's shape:
    at once, or by a rebuild to come.
    """
    if positions.live_position(connection, projection) is not None:
        return
    if log.head(connection) <= BULK_FROM:
        positions.ensure_live(connection, projection)
    else:
        rebuild_requests.request(connection, projection)


def drop_old(connection: Connection, projections: Sequence[Projection]) -> list[str]:
    """Drop what nobody reads any more; returns the names of the tables.

    That is: versions that were switched away from, the leftovers of interrupted rebuilds, and the
    live versions of older shapes, unless a runner of that release still keeps them up.
    """
    dropped: list[str] = []
    for projection in projections:
        for version, shape, role in connection.execute(
            positions.OF_SHAPES_UNTIL, [projection.name, projection.shape]
        ).fetchall():
            if role == "live" and shape == projection.shape:
                continue
            purpose = locks.LEADER if role == "live" else locks.REBUILD
            if role != "retired" and not locks.try_lock_shape(
                connection, purpose, projection.name, shape
            ):
                continue
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '5s'")
                positions.drop_version(connection, projection.name, version)
            if role != "retired":
                locks.unlock(connection, purpose, projection.name, shape)
            dropped.append(projection.table(version))
    return dropped


class _Rebuilding:
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
        self._stream_teams = StreamTeams()
        self._version = 0
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
        return self._version

    def build(self) -> None:
        """A version that has come as far as the live one."""
        self._begin()
        try:
            bulk.fill(
                self._connection,
                self._projection,
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
        bulk.index(self._connection, self._projection, self._version)
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
        if digest(connection, projection, self._version) == expected:
            return None
        with connection.transaction():
            self._apply_until(max(self._lock_versions().values()))
            return first_difference(connection, projection, live.version, self._version)

    def _digest_of_live(self, live: int) -> str | Unreadable:
        connection, projection = self._connection, self._projection
        damage = unreadable(connection, projection, live, self._version)
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
        _drop_unfinished(self._connection, self._projection)
        with self._connection.transaction():
            self._connection.execute(positions.LOCK_VERSIONS)
            self._version = positions.next_version(self._connection, self._projection)
            positions.create_version(
                self._connection, self._projection, self._version, role="building"
            )
        self._tell("building", 0)

    def _target(self) -> int:
        """How far to go: never beyond the live version, with which ours will be compared."""
        live = positions.live_position(self._connection, self._projection)
        return log.head(self._connection) if live is None else live.position

    def _position(self) -> int:
        return positions.position_of(
            self._connection, self._projection.name, self._version
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
            entries = log.read(self._connection, after=at, limit=BATCH, until=until)
            if not entries:
                break
            apply_batch(
                self._connection,
                self._projection,
                self._version,
                entries,
                after=at,
                registry=self._registry,
                stream_teams=self._stream_teams,
                role="building",
            )
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
            self._connection.execute(positions.HOLD, [name, self._version, shape]).fetchall()
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
            target = max(reached.values())
            if target - reached[self._version] > TAIL:
                return False
            self._apply_until(target)
            self._connection.execute(positions.RETIRE, [name, shape])
            self._connection.execute(positions.GO_LIVE, [name, self._version])
            self._row.progress("switching", self._version, target, log.head(self._connection))
            self._row.finish()
        return True

    def _tell(self, state: str, position: int) -> None:
        now, head = time.monotonic(), log.head(self._connection)
        is_due = state != self._state or now - self._told_at >= _TELL_EVERY_S
        if is_due and self._row is not None:
            self._row.progress(state, self._version, position, head)
        if is_due:
            self._state, self._told_at = state, now
        self._report(Progress(state, position, head))


@contextmanager
def _sole(connection: Connection, projection: Projection) -> Iterator[None]:
    """Hold the view's rebuild lock. Raises RebuildUnderway."""
    configure(connection, REBUILDING)
    if not locks.try_lock(connection, locks.REBUILD, projection):
        raise RebuildUnderway(f"the view {projection.name} is being rebuilt or verified already")
    try:
        yield
    finally:
        with suppress(psycopg.Error):
            locks.unlock(connection, locks.REBUILD, projection.name, projection.shape)


def _drop_unfinished(connection: Connection, projection: Projection) -> None:
    with connection.transaction():
        for (version,) in connection.execute(
            positions.BUILDING, [projection.name, projection.shape]
        ).fetchall():
            positions.drop_version(connection, projection.name, version)


def _told(error: BaseException) -> str:
    """One line for whoever asked, without data of events:
    a message of the database could quote them.
    """
    if isinstance(error, UnappliableEvent | ViewsDiffer):
        return str(error)
    return "interrupted" if isinstance(error, KeyboardInterrupt) else told(error)
