"""The runner: one process of the deployment drives every projection.

Whoever holds a view's advisory lock leads it; the lock dies with its connection, so another runner takes over
within a second. Correctness does not rest on it: positions move with the rows, and only from where they were
read. Two releases at once have different views, where a shape has changed, and each drives its own.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, LiteralString

import psycopg
import structlog
from psycopg import Connection

from domain.eventstore.connection import KEEPALIVES, watched
from domain.eventstore.registry import REGISTRY, EventRegistry
from projections import locks, log, positions
from projections.apply import PositionMoved, apply_batch
from projections.background import NICE_FOLLOWING, give_way
from projections.owners import Owners
from projections.projection import LogEntry, Projection, UnappliableEvent
from projections.rebuild import prepare
from projections.rebuilder import Rebuilder
from projections.wake import WakeUps

BATCH: Final = 5000
POLL_S: Final = 0.025
STANDBY_S: Final = 0.5
MAX_BACKOFF_S: Final = 2.0

EVERY_S: Final = 0.1
"""Between the beginnings of two batches while one append follows another, and nobody waits for a view. The
first one after a pause is applied at once. Whatever its size, a batch costs two milliseconds and more."""

LOOK_S: Final = 0.01
"""How often it looks meanwhile whether somebody does: to be woken by each commit would cost more."""

HOUSEKEEPING_S: Final = 60.0

FORGET_COMMANDS: Final[LiteralString] = """
    DELETE FROM ledger.commands WHERE command_id IN (
        SELECT command_id FROM ledger.commands
        WHERE at < (SELECT at FROM ledger.events ORDER BY notification_id DESC LIMIT 1) - interval '25 hours'
        ORDER BY at LIMIT 5000
    )
"""
"""By the index on at. A repeat is known as one for 24 hours of ledger time; one more is for clocks."""

logger = structlog.get_logger()


class Runner:
    """Keeps every view of this release up with the ledger.

    conninfo: the app role. wake_fd: what this deployment's processes tell (`wake.py`); appends of others are
    seen by polling, so no wake-up is ever needed for correctness.
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
        self._remembering = registry.remembering()
        self._wake_ups = WakeUps(wake_fd)
        self._batch = batch
        self._owners = Owners()

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
                with psycopg.connect(
                    watched(self._conninfo), autocommit=True, connect_timeout=2
                ) as connection:
                    connection.execute(KEEPALIVES)
                    connection.execute("SET statement_timeout = '30s'")
                    # Rows and position are lost together and applied again: no view waits for the disk.
                    connection.execute("SET synchronous_commit = off")
                    # All statements go by key. One that is prepared while a view is small would be planned
                    # as a scan and stay one while the view grows.
                    connection.execute("SET enable_seqscan = off")
                    give_way(connection, nice=NICE_FOLLOWING)
                    self._lead(connection, should_stop)
            except psycopg.OperationalError:
                logger.warning("projections.store_unavailable", retry_s=backoff_s)
            except Exception:
                logger.exception("projections.runner_failed", retry_s=backoff_s)
            if time.monotonic() - started > MAX_BACKOFF_S:  # it ran: what failed now is a new trouble
                backoff_s = 0.1
            self._wake_ups.wait(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    def catch_up(self, connection: Connection) -> int:
        """Apply everything that is committed by now; returns how many batches it took."""
        batches = 0
        while self.step(connection):
            batches += 1
        return batches

    def step(self, connection: Connection, led: Collection[str] | None = None) -> int:
        """One batch for every live view that is behind. How many events the longest had.

        led: names of the views to look at, all unless given.
        """
        read: dict[int, list[LogEntry]] = {}
        for position in positions.all_positions(connection):
            projection = self._projections.get(position.name)
            if projection is None or position.shape != projection.shape or position.state != "live":
                continue
            if not position.lag or (led is not None and position.name not in led):
                continue
            after = position.position
            if after not in read:
                read[after] = log.read(connection, after=after, limit=self._batch)
            if read[after]:
                self._apply(connection, projection, position, read[after])
        return max(map(len, read.values()), default=0)

    def _apply(
        self, connection: Connection, projection: Projection, at: positions.Position, entries: list[LogEntry]
    ) -> None:
        try:
            apply_batch(
                connection,
                projection,
                at.version,
                entries,
                after=at.position,
                registry=self._remembering,
                owners=self._owners,
            )
        except UnappliableEvent as poison:
            # Never skipped: the view stays at the event before, readers are told, everything else goes on.
            positions.stop(connection, at, poison)
            logger.error(  # noqa: TRY400 - a traceback could quote the event
                "projections.stopped",
                name=at.name,
                version=at.version,
                at=poison.position,
                error=poison.reason,
            )
        except PositionMoved:
            logger.info("projections.position_moved", name=at.name, version=at.version)

    def _lead(self, connection: Connection, should_stop: Callable[[], bool]) -> None:
        led: set[str] = set()
        tried_at = kept_house_at = -HOUSEKEEPING_S
        while not should_stop():
            began = time.monotonic()
            if len(led) < len(self._projections) and began - tried_at >= STANDBY_S:
                tried_at = began
                led |= self._take_over(connection, led)
            if not led:
                self._wake_ups.wait(STANDBY_S)
                continue
            if began - kept_house_at >= HOUSEKEEPING_S:
                kept_house_at = began
                connection.execute(FORGET_COMMANDS)
            events = self.step(connection, led)
            if not events:
                self._wake_ups.wait(POLL_S)
            elif events < self._batch:
                self._pause(until=began + EVERY_S)

    def _take_over(self, connection: Connection, led: Collection[str]) -> set[str]:
        """Lead every view that nobody else does."""
        taken: set[str] = set()
        with connection.transaction():
            connection.execute(locks.TAKE_OVER)  # one takes all: two that start together do not share them
            for projection in self._projections.values():
                if projection.name not in led and locks.try_lock(connection, locks.LEADER, projection):
                    taken.add(projection.name)
        for name in taken:
            prepare(connection, self._projections[name])
        if taken:
            logger.info("projections.leading", views=sorted(taken))
        return taken

    def _pause(self, *, until: float) -> None:
        """Let appends come together, but let nobody wait for that."""
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, LOOK_S))
            if self._wake_ups.wait(0):
                return
