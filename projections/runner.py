"""The runner: one process of the deployment drives every projection.

Whoever holds the advisory lock leads; the lock dies with its connection, so another runner takes over within
a second. Correctness does not rest on it: positions move with the rows, and only from where they were read.
"""

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Final

import psycopg
import structlog
from psycopg import Connection

from domain.eventstore.registry import REGISTRY, EventRegistry
from projections import log, positions
from projections.apply import PositionMoved, apply_batch
from projections.projection import LogEntry, Projection, UnappliableEvent

LEADER_LOCK: Final = 7239075817
BATCH: Final = 5000
POLL_S: Final = 0.025
STANDBY_S: Final = 0.5
MAX_BACKOFF_S: Final = 2.0

logger = structlog.get_logger()


class Runner:
    """Keeps every view of this release up with the ledger.

    conninfo: the app role. wake_fd: readable after an append of this deployment's processes; appends of
    others are seen by polling, so no wake-up is ever needed for correctness.
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
        self._wake_fd = wake_fd
        self._batch = batch

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Lead when possible, until told to stop. Survives the database and its own mistakes."""
        backoff_s = 0.1
        while not should_stop():
            started = time.monotonic()
            try:
                with psycopg.connect(self._conninfo, autocommit=True, connect_timeout=2) as connection:
                    connection.execute("SET statement_timeout = '30s'")
                    self._lead(connection, should_stop)
            except psycopg.OperationalError:
                logger.warning("projections.store_unavailable", retry_s=backoff_s)
            except Exception:
                logger.exception("projections.runner_failed", retry_s=backoff_s)
            if time.monotonic() - started > MAX_BACKOFF_S:  # it ran: what failed now is a new trouble
                backoff_s = 0.1
            self._wait(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    def catch_up(self, connection: Connection) -> int:
        """Apply everything that is committed by now; returns how many batches it took."""
        batches = 0
        while self.step(connection):
            batches += 1
        return batches

    def step(self, connection: Connection) -> bool:
        """One batch for every live view that is behind. Whether there was any."""
        read: dict[int, list[LogEntry]] = {}
        for position in positions.all_positions(connection):
            projection = self._projections.get(position.name)
            if projection is None or position.state != "live" or not position.lag:
                continue
            after = position.position
            if after not in read:
                read[after] = log.read(connection, after=after, limit=self._batch)
            if read[after]:
                self._apply(connection, projection, position, read[after])
        return bool(read)

    def _apply(
        self, connection: Connection, projection: Projection, at: positions.Position, entries: list[LogEntry]
    ) -> None:
        try:
            apply_batch(
                connection, projection, at.version, entries, after=at.position, registry=self._registry
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
        while not should_stop():
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK]).fetchone()
            if row == (True,):
                break
            self._wait(STANDBY_S)
        for projection in self._projections.values():
            positions.ensure_live(connection, projection)
        logger.info("projections.leading")
        while not should_stop():
            if not self.step(connection):
                self._wait(POLL_S)

    def _wait(self, timeout_s: float) -> None:
        if self._wake_fd is None:
            time.sleep(timeout_s)
        elif select.select([self._wake_fd], [], [], timeout_s)[0]:
            os.read(self._wake_fd, 65536)
