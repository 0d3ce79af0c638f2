"""Find what a ledger lacks of what was seen of it, and close its positions to what comes."""

from datetime import datetime
from typing import Final

from psycopg import Connection

from domain.errors import EventsLost, InvalidValue
from domain.eventstore.known_head.requirement import require_known
from domain.losses.declared import LOSSES_ID, KnownEvent, Loss
from domain.postgres.sql_file import statements

BEYOND_MAX: Final = 1_000_000_000
"""Positions: the loss of a month at 400 events a second. What is typed is not believed beyond."""

_SQL: Final = statements("domain.eventstore.known_head", "sql/known_head.sql")


def find_loss(connection: Connection, known: KnownEvent | None, seen: int | None) -> Loss | None:
    """What is lost; None where nothing is.

    known: of the head file. seen: the last position that a collector has stored. Raises
    InvalidValue for one that nobody can have seen.
    """
    row = connection.execute(_SQL["newest_position"]).fetchone()
    assert row is not None
    newest: int = row[0]
    if seen is not None and not 0 < seen <= newest + BEYOND_MAX:
        raise InvalidValue("/seen", "must be the position of an event that a collector has stored")
    lost = known if _is_lost(connection, known) else None
    missing = [] if seen is None or seen <= newest else [seen]
    if lost is not None:
        missing.append(lost.position)
    if not missing:
        return None
    return Loss(newest if newest < min(missing) else None, max(missing), lost)


def _is_lost(connection: Connection, known: KnownEvent | None) -> bool:
    try:
        require_known(connection, known)
    except EventsLost:
        return True
    return False


def close_positions(connection: Connection, loss: Loss) -> None:
    """No event gets a position that somebody has seen another one at."""
    connection.execute(_SQL["skip_positions"], [loss.until])


def last_declared(connection: Connection) -> datetime | None:
    """When a loss was declared last; None where none was."""
    row = connection.execute(_SQL["last_declared"], [LOSSES_ID]).fetchone()
    return None if row is None else row[0]
