"""Rebuild a view while the old one serves: fill, catch up, compare, switch.

It is the view's own fold, started from the beginning. Whoever rebuilds holds an advisory lock of
the view and shape for as long as its connection lives. Interrupted, the half-built version is
dropped by the next rebuild, which starts over; it was never visible, and rows and position of each
write are one transaction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
import structlog
from psycopg import Connection

from domain.errors import AlreadyUnderway
from domain.eventstore.event_registry import REGISTRY, EventRegistry
from domain.postgres.connection import configure
from domain.postgres.session import REBUILDING
from projections.faults import told
from projections.follow import locks, positions
from projections.projection import Projection, UnappliableEvent
from projections.rebuild import requests as rebuild_requests
from projections.rebuild.compare import Difference, Unreadable
from projections.rebuild.requests import RebuildRow
from projections.rebuild.steps import (
    Interrupted,
    Progress,
    Rebuilding,
    Report,
    ViewsDiffer,
    drop_unfinished,
)

logger = structlog.get_logger()


class RebuildUnderway(AlreadyUnderway):
    """The view is being rebuilt or verified already."""


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
        version = Rebuilding(connection, projection, registry, report, row).run()
    except Interrupted:  # it stays asked for
        raise
    except BaseException as error:
        # Whoever tells us to stop cancels what we wait for. Cancelled by anybody else, or by a
        # limit of time, it has failed: taken up again, it would be cancelled again, for ever.
        if isinstance(error, psycopg.errors.QueryCanceled) and should_stop():
            raise Interrupted from error
        with suppress(psycopg.Error):
            drop_unfinished(connection, projection)
        # Gone with its connection, the row stays open: whoever takes it up starts over.
        with suppress(psycopg.Error):
            row.finish(error=_told(error))
        raise
    logger.info("projections.rebuilt", name=projection.name, version=version)
    return version


def check_view(
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
            building = Rebuilding(connection, projection, registry, report, None)
            building.build()
            found = building.compare()
            live = positions.live_position(connection, projection)
            if found is None and live is not None and live.stopped_at is not None:
                raise UnappliableEvent(live.stopped_at, live.error or "the view has stopped")
            return found
        finally:
            with suppress(psycopg.Error):
                drop_unfinished(connection, projection)


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


def _told(error: BaseException) -> str:
    """One line for whoever asked, without data of events:
    a message of the database could quote them.
    """
    if isinstance(error, UnappliableEvent | ViewsDiffer):
        return str(error)
    return "interrupted" if isinstance(error, KeyboardInterrupt) else told(error)
