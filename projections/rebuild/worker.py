"""Carry out requested rebuilds beside the runner, on a thread and connection of its own."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

import psycopg
import structlog
from psycopg import Connection

from domain.errors import StoreUnavailable
from domain.eventstore.event_registry import REGISTRY, EventRegistry
from domain.postgres.connection import (
    OUT_OF_REACH,
    answered_within,
    open_connection,
    require_writes,
)
from domain.postgres.session import REBUILDING
from domain.postgres.trouble.told_once import ToldOnce
from projections.faults import told
from projections.follow.low_priority import give_way
from projections.projection import Projection, UnappliableEvent
from projections.rebuild.requests import underway
from projections.rebuild.run import RebuildUnderway, take_up
from projections.rebuild.steps import Interrupted, ViewsDiffer

POLL_S: Final = 0.5
LOOKED_WITHIN_S: Final = 5.0
"""To look for rebuilds is answered in milliseconds; what a rebuild asks takes as long as it takes.
"""
STOP_TIMEOUT_S: Final = 5.0
CANCEL_EVERY_S: Final = 0.1
"""What is cancelled between two statements goes on with the next."""

logger = structlog.get_logger()


class Rebuilder:
    """A context manager: looks for rebuilds for as long as its block runs.

    Any number may look, in any process: the one that gets the view's rebuild lock does it. A
    rebuild that was cut short, by the end of its process or of the database, is still asked for and
    is started over.
    """

    def __init__(
        self,
        conninfo: str,
        projections: Sequence[Projection],
        *,
        registry: EventRegistry = REGISTRY,
    ) -> None:
        self._conninfo = conninfo
        self._projections = projections
        self._registry = registry
        self._stopping = threading.Event()
        self._store = ToldOnce(
            "projections.rebuilder_disconnected", "projections.rebuilder_connected_again"
        )
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="rebuilder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            connection = self._connection
            if connection is not None:  # an index may be half made; nobody waits for it
                with suppress(psycopg.Error):  # it was about to end by itself
                    connection.cancel_safe(timeout=1.0)
            self._thread.join(CANCEL_EVERY_S)

    def step(self, connection: Connection) -> bool:
        """Carry out the oldest rebuild that nobody else is at; whether there was one.

        Raises StoreReadOnly, and what a connection that is lost does.
        """
        with answered_within(connection, LOOKED_WITHIN_S):
            asked_for = underway(connection, self._projections)
        require_writes(connection)
        self._store.works()
        for projection in asked_for:
            try:
                version = take_up(
                    connection,
                    projection,
                    registry=self._registry,
                    should_stop=self._stopping.is_set,
                )
            except RebuildUnderway:
                continue
            except (UnappliableEvent, ViewsDiffer) as error:
                _tell_failure(projection, str(error))
                return True
            except psycopg.Error as error:
                # It is asked for still.
                if connection.broken or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                    raise
                _tell_failure(projection, told(error))
                return True
            if version is not None:
                return True
        return False

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with open_connection(self._conninfo, session=REBUILDING, timeout_s=2) as connection:
                    self._connection = connection
                    give_way(connection)
                    while not self._stopping.is_set():
                        if not self.step(connection):
                            self._stopping.wait(POLL_S)
            except (Interrupted, StoreUnavailable, *OUT_OF_REACH) as error:
                if not self._stopping.is_set():
                    self._store.lost(error)
            except Exception:
                logger.exception("projections.rebuilder_failed")
            finally:
                self._connection = None
            self._stopping.wait(POLL_S)


def _tell_failure(projection: Projection, error: str) -> None:
    logger.error("projections.rebuild_failed", name=projection.name, error=error)
