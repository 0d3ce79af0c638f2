"""Whether no more of the ledger is missing than has left it for the archive."""

from typing import Final

from psycopg import Connection

from domain.errors import LedgerError
from domain.eventstore.archive.removal import removable
from domain.eventstore.archive.stretches import stretches
from domain.postgres.sql_file import statements

_SQL: Final = statements("domain.eventstore.archive", "sql/archive.sql")


class EventsMissing(LedgerError):
    """Other events are missing than have left the ledger; the text says how many."""


def require_whole(connection: Connection) -> None:
    """Raise EventsMissing unless as many events are missing in the streams as have left.

    connection: in a transaction in which nobody extends the archive. Of a stretch that is on record
    and has not left yet, what is to leave is there still. Raises ArchiveDamaged, too.
    """
    known = stretches(connection)
    leaving = removable(connection, known[-1].until)[0] if known else ()
    left = sum(stretch.removed for stretch in known) - len(leaving)
    (missing,) = connection.execute(_SQL["missing"]).fetchone() or (0,)
    if missing != left:
        raise EventsMissing(
            f"{missing} events are missing in the streams, and {left} have left for the archive: "
            "what follows from the others may be what somebody took back; restore a backup, or put "
            "back what is missing (scim-ledger verify says what, and with --archive which)"
        )
