"""Which events leave the ledger once they are in the archive, and how."""

from array import array
from collections.abc import Sequence
from typing import Final

from psycopg import Connection

from domain.archive.extended import LEAVING
from domain.errors import LedgerError
from domain.postgres import binary_arrays
from domain.postgres.migrate import takes_owner
from domain.postgres.sql_file import statements

_SQL: Final = statements("domain.eventstore.archive", "sql/archive.sql")
_READ: Final = 10_000


class MayNotRemove(LedgerError):
    """The role may not delete events; the text names the one that may."""


def require_owner(connection: Connection) -> None:
    """Raise MayNotRemove unless this role may delete events: the service's may not."""
    if connection.execute(_SQL["may_remove"]).fetchone() != (True,):
        raise MayNotRemove(f"this role may not delete events; {takes_owner(connection)}")


def removable(connection: Connection, until: int) -> tuple[Sequence[int], int]:
    """The positions up to `until` of the events that nothing rests on, and how many uses they
    stand for. What was removed already is not among them, and the rest is the same.
    """
    positions, uses = array("q"), 0  # eight bytes each, of which there may be millions
    asked = {"until": until, "leaving": list(LEAVING)}
    with connection.transaction(), connection.cursor(name="removable", binary=True) as cursor:
        cursor.itersize = _READ
        for position, of_it in cursor.execute(_SQL["removable"], asked):
            positions.append(position)
            uses += of_it
    return positions, uses


def remove(owner: Connection, positions: Sequence[int]) -> int:
    """Delete events, as the owner; returns how many there were."""
    return owner.execute(_SQL["remove"], [binary_arrays.bigints(positions)]).rowcount
