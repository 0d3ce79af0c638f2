"""The runner: one process of the deployment drives every projection.

Whoever holds a view's advisory lock leads it; the lock dies with its connection, so another runner
takes over within a second. Correctness does not rest on it: positions move with the rows, and only
from where they were read. Two releases at once have different views, where a shape has changed, and
each drives its own.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

import psycopg
import structlog
from psycopg import Connection

from domain.errors import StoreUnavailable
from domain.eventstore.event_registry import REGISTRY, EventRegistry
from domain.postgres.connection import OUT_OF_REACH, open_connection, require_writes
from domain.postgres.session import FOLLOWING
from domain.postgres.sql_file import statements
from domain.postgres.trouble.told_once import ToldOnce
from projections.faults import told
from projections.follow import locks, positions, read_log
from projections.follow.apply import BatchApplier
from projections.follow.low_priority import NICE_FOLLOWING, give_way
from projections.follow.patience import Patience
from projections.follow.stored_keys import StoredKeys
from projections.follow.view_version import PositionMoved, ViewVersion
from projections.follow.wake_ups import WakeUps
from projections.projection import LogEntry, Projection, UnappliableEvent, UnknownTopic
from projections.rebuild.shapes import prepare
from projections.rebuild.worker import Rebuilder

BATCH: Final = 5000
POLL_S: Final = 0.025
STANDBY_S: Final = 0.5
MAX_BACKOFF_S: Final = 2.0

BUSY_SHARE: Final = 0.05
"""Of the time, for batches, while one append follows another and nobody waits for a view. The first
one after a pause is applied at once. Whatever its size, a batch costs two milliseconds and more,
and what is used twice in it is written once.
"""

APART_S: Final = 0.25
"""At most, from the beginning of a batch to that of the next: who reads by another machine than the
one that keeps the views cannot wake it.
"""

LOOK_S: Final = 0.01
"""How often it looks meanwhile whether somebody does:
to be woken by each commit would cost more.
"""

REST_S: Final = 1.0
"""A view whose batch failed for a reason of the store is left alone for so long;
the others go on.
"""

YIELD_S: Final = 60.0
"""A view that met an event of a newer release is not led again for so long:
that release shall lead it.
"""

HOUSEKEEPING_S: Final = 60.0

_SQL: Final = statements("projections", "runner.sql")

logger = structlog.get_logger()


class Runner:
    """Keeps every view of this release up with the ledger.

    conninfo: the app role. wake_fd: what this deployment's processes tell (`wake_ups.py`); appends
    of others are seen by polling, so no wake-up is ever needed for correctness.
    """

    def __init__(
        self,
        conninfo: str,
        projections: Sequence[Projection],
        *,
        registry: EventRegistry = REGISTRY,
        wake_fd: int | None = None,
        batch: int = BATCH,
    ) -> None:
        self._conninfo = conninfo
        self._projections = {projection.name: projection for projection in projections}
        self._registry = registry
        self._applier = BatchApplier(registry.remembering(), stored_keys=StoredKeys())
        self._wake_ups = WakeUps(wake_fd)
        self._batch = batch
        self._patience = Patience()
        self._store = ToldOnce("projections.store_unavailable", "projections.store_available_again")
        self._resting: dict[str, tuple[float, psycopg.Error]] = {}
        self._yielded: dict[str, float] = {}
        self._led: set[str] = set()

    def leads(self, projection: Projection) -> bool:
        """Whether this runner is the one that keeps the view up, for whoever works beside it."""
        return projection.name in self._led

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Lead when possible, until told to stop. Survives the database and its own mistakes.

        Beside it, a thread carries out the rebuilds that are asked for.
        """
        with Rebuilder(self._conninfo, list(self._projections.values()), registry=self._registry):
            self._run(should_stop)

    def _run(self, should_stop: Callable[[], bool]) -> None:
        backoff_s = 0.1
        while not should_stop():
            started = time.monotonic()
            try:
                with open_connection(self._conninfo, session=FOLLOWING, timeout_s=2) as connection:
                    give_way(connection, nice=NICE_FOLLOWING)
                    self._lead(connection, should_stop)
            except (StoreUnavailable, *OUT_OF_REACH) as error:
                self._store.lost(error)
                self._patience.failed()
            except Exception:
                logger.exception("projections.runner_failed", retry_s=backoff_s)
            if time.monotonic() - started > MAX_BACKOFF_S:
                # it ran: what failed now is a new trouble
                backoff_s = 0.1
            self._led = set()
            self._wake_ups.wait(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    def catch_up(self, connection: Connection) -> int:
        """Apply everything that is committed by now; returns how many batches it took.

        Raises what the store failed with, when every view has gone as far as it could.
        """
        batches = 0
        self._resting.clear()
        while self.step(connection):
            batches += 1
        for _, error in self._resting.values():
            raise error
        return batches

    def step(self, connection: Connection, led: Collection[str] | None = None) -> int:
        """One batch for every live view that is behind. How many events the longest had.

        led: names of the views to look at, all unless given.
        """
        read: dict[int, list[LogEntry]] = {}
        with self._patience.within(connection):
            at = positions.all_positions(connection)
        for position in at:
            projection = self._projections.get(position.name)
            if projection is None or position.shape != projection.shape or position.state != "live":
                continue
            if not position.lag or (led is not None and position.name not in led):
                continue
            if self._is_resting(position.name):
                continue
            after = position.position
            with self._patience.within(connection, events=min(position.lag, self._batch)):
                if after not in read:
                    read[after] = read_log.read(connection, after=after, limit=self._batch)
                if read[after]:
                    self._apply(connection, projection, position, read[after])
        return max(map(len, read.values()), default=0)

    def _apply(
        self,
        connection: Connection,
        projection: Projection,
        at: positions.Position,
        entries: list[LogEntry],
    ) -> None:
        try:
            version = ViewVersion(connection, projection, at.version)
            self._applier.apply(version, entries, after=at.position)
        except UnappliableEvent as poison:
            # Never skipped: the view stays at the event before, readers are told, everything else
            # goes on.
            positions.stop(connection, at, poison)
            if isinstance(poison, UnknownTopic):
                self._yielded[at.name] = time.monotonic() + YIELD_S
            logger.error(  # noqa: TRY400 - a traceback could quote the event
                "projections.stopped",
                name=at.name,
                version=at.version,
                at=poison.position,
                error=poison.reason,
            )
        except PositionMoved:  # by a service, where a command catches up beside it
            logger.debug("projections.position_moved", name=at.name, version=at.version)
        except psycopg.Error as error:
            if connection.broken or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                raise
            logger.warning("projections.retrying", name=at.name, error=told(error), retry_s=REST_S)
            self._resting[at.name] = (time.monotonic() + REST_S, error)

    def _is_resting(self, name: str) -> bool:
        until, _ = self._resting.get(name, (0.0, None))
        if time.monotonic() < until:
            return True
        self._resting.pop(name, None)
        return False

    def _lead(self, connection: Connection, should_stop: Callable[[], bool]) -> None:
        led: set[str] = set()
        self._led = led
        tried_at = kept_house_at = -HOUSEKEEPING_S
        while not should_stop():
            began = time.monotonic()
            if len(led) < len(self._projections) and began - tried_at >= STANDBY_S:
                tried_at = began
                led |= self._take_over(connection, led)
                require_writes(connection)
            if not led:
                self._store.works()
                self._wake_ups.wait(STANDBY_S)
                continue
            if began - kept_house_at >= HOUSEKEEPING_S:
                kept_house_at = began
                connection.execute(_SQL["forget_commands"])
            events = self.step(connection, led)
            require_writes(connection)
            self._patience.worked(time.monotonic() - began)
            self._store.works()
            led -= self._give_up(connection, led)
            if not events:
                self._wake_ups.wait(POLL_S)
            elif events < self._batch:
                took_s = time.monotonic() - began
                self._pause(until=began + min(took_s / BUSY_SHARE, APART_S))

    def _take_over(self, connection: Connection, led: Collection[str]) -> set[str]:
        """Lead every view that nobody else does, but for those that are left to a newer release."""
        taken: set[str] = set()
        now = time.monotonic()
        with self._patience.within(connection), connection.transaction():
            # one takes all: two that start together do not share them
            connection.execute(locks.TAKE_OVER)
            for name, projection in self._projections.items():
                is_left = name in led or now < self._yielded.get(name, 0.0)
                if not is_left and locks.try_lock(connection, locks.LEADER, projection):
                    taken.add(name)
        for name in sorted(taken):
            if not self._begin(connection, self._projections[name]):
                taken.remove(name)
        if taken:
            logger.info("projections.leading", views=sorted(taken))
        return taken

    def _begin(self, connection: Connection, projection: Projection) -> bool:
        """See to it that there is a view to lead;
        False where that fails, which shall keep no other back.

        One that has stopped tries its event again: whoever leads now may be the release that can
        apply it.
        """
        try:
            prepare(connection, projection)
            positions.retry(connection, projection)
        except psycopg.Error as error:
            if connection.broken or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                raise
            logger.error("projections.not_prepared", name=projection.name, error=told(error))  # noqa: TRY400
            locks.unlock(connection, locks.LEADER, projection.name, projection.shape)
            return False
        return True

    def _give_up(self, connection: Connection, led: Collection[str]) -> set[str]:
        """Stop leading what met an event of a newer release; returns the names."""
        now = time.monotonic()
        given_up = {name for name in led if now < self._yielded.get(name, 0.0)}
        for name in given_up:
            projection = self._projections[name]
            locks.unlock(connection, locks.LEADER, name, projection.shape)
        if given_up:
            logger.info("projections.yielding", views=sorted(given_up), retry_s=YIELD_S)
        return given_up

    def _pause(self, *, until: float) -> None:
        """Let appends come together, but let nobody wait for that."""
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, LOOK_S))
            if self._wake_ups.wait(0):
                return
