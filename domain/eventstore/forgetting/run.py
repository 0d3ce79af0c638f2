"""Take addresses, and what programs call themselves, out of all events.

Run by the owner, while no service runs, in one transaction, and kept on record, as a repair is.
Unlike a repair it keeps nothing of what it took.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, LiteralString, NamedTuple
from uuid import UUID

from psycopg import Connection

from domain.eventstore import repair
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.forgetting.events import Forgotten, Pseudonyms, without
from domain.postgres import binary_arrays
from domain.postgres.binary_arrays import Array
from domain.postgres.sql_file import statements

_BATCH: Final = 5_000
_SQL: Final = statements("domain.eventstore.forgetting", "sql/forgetting.sql")


class Forgetting(NamedTuple):
    """events: how many were changed. addresses: how many different ones they told."""

    events: int
    addresses: int


def forget(connection: Connection, what: Forgotten, *, by: str, reason: str) -> Forgetting:
    """Take it out of every event and the states that follow, and out of the events that a repair
    has kept as they were.

    An address gives way to one that nobody has, the same for the same, so that all that is asked of
    addresses is answered as before, but for their names. What a program calls itself is left out.
    Nothing else of an event changes.

    connection: the owner, in a transaction that the caller ends (rolled back, it was a trial).
    Raises NotRepairable while a service runs, EventsMissing where the events are not whole,
    UnreadableEvent for one of a later release.
    """
    repair.begin(connection)
    repair.record(connection, "forgetting", by=by, reason=reason)
    named = Pseudonyms()
    events, streams = 0, set[UUID]()
    for columns in _changed(connection, _SQL["told"], what, named):
        rows = connection.execute(_SQL["rewrite"], columns, prepare=False).fetchall()
        events += len(rows)
        streams.update(id_ for (id_,) in rows)
    repair.derive(connection, list(streams))
    for columns in _changed(connection, _SQL["kept"], what, named):
        connection.execute(_SQL["rewrite_kept"], columns, prepare=False)
    return Forgetting(events, len(named))


def _changed(
    connection: Connection, told: LiteralString, what: Forgotten, named: Pseudonyms
) -> Iterator[Sequence[Array]]:
    """Of the events that a statement reads those that change, a batch at a time: position, repair,
    topic and state, a column each.
    """
    with connection.cursor(name="forgetting", binary=True) as cursor:
        cursor.execute(told)
        while rows := cursor.fetchmany(_BATCH):
            if columns := tuple(zip(*_taken(rows, what, named), strict=True)):
                positions, repairs, topics, states = columns
                yield (
                    binary_arrays.bigints(positions),
                    binary_arrays.bigints(repairs),
                    binary_arrays.texts(topics),
                    binary_arrays.byteas(states),
                )


def _taken(
    rows: Iterable[tuple[int, int, str, bytes]], what: Forgotten, named: Pseudonyms
) -> Iterator[tuple[int, int, str, bytes]]:
    """Those rows that change, as they are then: position, repair, topic and bytes."""
    for position, repair_id, topic, state in rows:
        event = REGISTRY.decode(topic, state)
        rest = without(event, what=what, named=named)
        if rest is not event:
            yield position, repair_id, rest.topic, REGISTRY.encode(rest)
