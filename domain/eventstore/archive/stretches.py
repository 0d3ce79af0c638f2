"""The stretches of the ledger that are in the archive, and where the next one ends."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from psycopg import Connection

from domain.archive.extended import ARCHIVE_ID, Extended
from domain.errors import LedgerError
from domain.eventstore.event_registry import REGISTRY
from domain.postgres.sql_file import statements

EVENTS: Final = 250_000
"""About how many events a stretch has, if they are not of one hour."""
HOUR: Final = timedelta(hours=1)

_HASH: Final = re.compile("[0-9a-f]{64}", re.ASCII)
_SQL: Final = statements("domain.eventstore.archive", "sql/archive.sql")


class Span(NamedTuple):
    """A stretch that is to be archived. Fields as in `Stretch`."""

    after: int
    until: int
    before: datetime


class AnotherExtends(LedgerError):
    """Another command extends the archive."""


class ArchiveDamaged(LedgerError):
    """What the ledger tells of its archive was changed; the text says where."""


def stretches(connection: Connection) -> Sequence[Extended]:
    """All that are in the archive, the oldest first. Raises ArchiveDamaged."""
    with connection.transaction():
        rows = connection.execute(_SQL["extensions"], [ARCHIVE_ID]).fetchall()
    found: list[Extended] = []
    for topic, state in rows:
        try:
            event = REGISTRY.decode(topic, state)
        except LedgerError:
            event = None
        reached = found[-1].until if found else 0
        if not isinstance(event, Extended) or not _is_next(event, reached):
            raise ArchiveDamaged(f"what the ledger tells of it behind event {reached} was changed")
        found.append(event)
    return found


def _is_next(event: Extended, reached: int) -> bool:
    hashes = (event.seal, event.file_digest)
    return event.after == reached < event.until and all(map(_HASH.fullmatch, hashes))


def horizon(connection: Connection, older_than: timedelta) -> datetime | None:
    """The full hour that what is older lies before; None where there is no event.

    It is told by the database's clock, and by ledger time where that is behind: a clock that is
    ahead makes nothing old.
    """
    now, _ = connection.execute(_SQL["now"]).fetchone() or (None, 0)
    return None if now is None else _full_hour(now - older_than)


def take_turn(connection: Connection) -> None:
    """One command at a time extends the archive, for as long as its session lives.

    Raises AnotherExtends.
    """
    if connection.execute(_SQL["take_turn"]).fetchone() != (True,):
        raise AnotherExtends("another command extends the archive: repeat this once it is done")


def count(connection: Connection, *, after: int, until: int) -> int:
    """How many events there are between two positions."""
    (found,) = connection.execute(_SQL["count"], [after, until]).fetchone() or (0,)
    return int(found)


def next_span(connection: Connection, *, after: int, horizon: datetime) -> Span | None:
    """The oldest stretch behind a position, up to the horizon; None where there is nothing.

    It ends with a full hour: no hour of the view `usage` is in two stretches.
    """
    first = connection.execute(_SQL["first_behind"], [after]).fetchone()
    if first is None or first[0] >= horizon:
        return None
    before = horizon
    full = connection.execute(_SQL["first_behind"], [after + EVENTS]).fetchone()
    if full is not None:
        before = min(horizon, max(_full_hour(full[0]), _full_hour(first[0]) + HOUR))
    until = last_before(connection, before, after=after)
    return None if until is None else Span(after, until, before)


def last_before(connection: Connection, instant: datetime, *, after: int) -> int | None:
    """The position of the last event before an instant; None where none is behind `after`.

    Ledger time never goes back, so some forty looks find it among any number.
    """
    _, high = connection.execute(_SQL["now"]).fetchone() or (None, 0)
    low, found = after, None
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(_SQL["last_up_to"], [middle, low]).fetchone()
        if row is None:
            low = middle
        elif row[1] < instant:
            low, found = middle, row[0]
        else:
            high = row[0] - 1
    return found


def _full_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
