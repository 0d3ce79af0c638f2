"""Carrying out the rebuilds that are asked for, beside the runner, on a thread and connection of its own."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

import psycopg
import structlog
from psycopg import Connection

from domain.eventstore.connection import KEEPALIVES, watched
from domain.eventstore.registry import REGISTRY, EventRegistry
from projections.background import give_way
from projections.faults import told
from projections.projection import Projection, UnappliableEvent
from projections.rebuild import SETTINGS, Interrupted, RebuildUnderway, ViewsDiffer, take_up
from projections.rebuild_requests import underway

POLL_S: Final = 0.5
STOP_TIMEOUT_S: Final = 5.0

logger = structlog.get_logger()


class Rebuilder:
    """A context manager: looks for rebuilds for as long as its block runs.

    Any number may look, in any process: the one that gets the view's rebuild lock does it. A rebuild that was
    cut short, by the end of its process or of the database, is still asked for and is started over.
    """

    def __init__(
        self, conninfo: str, projections: Sequence[Projection], *, registry: EventRegistry = REGISTRY
    ) -> None:
        self._conninfo = conninfo
        self._projections = projections
        self._registry = registry
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="rebuilder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        connection = self._connection
        if connection is not None:  # an index may be half made; nobody waits for it
            with suppress(psycopg.Error):  # it was about to end by itself
                connection.cancel_safe(timeout=1.0)
        self._thread.join(STOP_TIMEOUT_S)

    def step(self, connection: Connection) -> bool:
        """Carry out the oldest rebuild that nobody else is at; whether there was one."""
        for projection in underway(connection, self._projections):
            try:
                version = take_up(
                    connection, projection, registry=self._registry, should_stop=self._stopping.is_set
                )
            except RebuildUnderway:
                continue
            except (UnappliableEvent, ViewsDiffer) as error:
                _tell_failure(projection, str(error))
                return True
            except psycopg.Error as error:
                if connection.broken:  # it is asked for still
                    raise
                _tell_failure(projection, told(error))
                return True
            if version is not None:
                return True
        return False

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(
                    watched(self._conninfo), autocommit=True, connect_timeout=2
                ) as connection:
                    connection.execute(KEEPALIVES)
                    for setting in SETTINGS:
                        connection.execute(setting)
                    self._connection = connection
                    give_way(connection)
                    while not self._stopping.is_set():
                        if not self.step(connection):
                            self._stopping.wait(POLL_S)
            except (Interrupted, psycopg.OperationalError) as error:
                if not self._stopping.is_set():
                    logger.warning("projections.rebuilder_disconnected", error=type(error).__name__)
            except Exception:
                logger.exception("projections.rebuilder_failed")
            finally:
                self._connection = None
            self._stopping.wait(POLL_S)


def _tell_failure(projection: Projection, error: str) -> None:
    logger.error("projections.rebuild_failed", name=projection.name, error=error)
