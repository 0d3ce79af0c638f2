"""What the views forget with the events that leave the ledger: a view is the fold of what stays.

The trail has a row of each event, and forgets those. An hour of `usage` is counted anew from what
stays of it. The other views rest on no event that leaves.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString, TypeVar

from psycopg import Connection
from psycopg.rows import args_row

from domain.errors import LedgerError
from domain.eventstore.event_registry import REGISTRY
from domain.postgres import binary_arrays
from domain.postgres.sql_file import statements, with_names
from projections.audit_trail import view as audit_trail
from projections.follow import locks
from projections.follow.positions import Position, all_positions, live_of
from projections.follow.view_version import ViewVersion
from projections.projection import LogEntry, Projection
from projections.registry import PROJECTIONS
from projections.usage import view as usage

T = TypeVar("T")
_READ: Final = 10_000
_SQL: Final = statements("projections.archive", "forgetting.sql")
_NAMES: Final = frozenset(projection.name for projection in PROJECTIONS)
_entry: Final[Callable[..., LogEntry]] = LogEntry


class ViewsNotReady(LedgerError):
    """No event may leave the ledger as the views are now; the text says what to do first."""


def batches(all_: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many at a time that a statement takes well under a second."""
    return (all_[start : start + _READ] for start in range(0, len(all_), _READ))


@contextmanager
def views_held(connection: Connection, *, until: int) -> Iterator[None]:
    """In the block no version of a view is begun, and those that there are have come to `until`.

    connection: the owner's, which deletes: what it holds ends with it, and nothing is deleted then.
    Raises ViewsNotReady.
    """
    connection.execute(_SQL["hold_versions"])
    try:
        _require_ready(connection, until)
        yield
    finally:
        if not connection.closed:
            connection.execute(_SQL["let_versions_go"])


def _require_ready(connection: Connection, until: int) -> None:
    for at in all_positions(connection):  # once: the views go on meanwhile
        if at.role == "building":
            if _is_built(connection, at):
                raise ViewsNotReady(
                    f"the view {at.name} is being rebuilt: repeat this once it is done"
                )
        elif at.name in _NAMES and not any(map(at.is_live_of, PROJECTIONS)):
            raise ViewsNotReady(
                f"another release reads the view {at.name}: finish the upgrade, then repeat this"
            )
        elif at.name in _NAMES and (at.position < until or at.stopped_at is not None):
            raise ViewsNotReady(
                f"the view {at.name} has come to event {at.position} only: scim-ledger projections "
                "list says why"
            )


def _is_built(connection: Connection, at: Position) -> bool:
    """Whether somebody is at it: what a rebuild that was cut off has left is built anew."""
    if not locks.try_lock_shape(connection, locks.REBUILD, at.name, at.shape):
        return True
    locks.unlock(connection, locks.REBUILD, at.name, at.shape)
    return False


def forget(connection: Connection, leaving: Sequence[int], *, until: int) -> None:
    """Let the live views be those of a ledger without these events.

    connection: autocommit, the app role. leaving: positions of uses and refusals, up to `until`,
    which ends with an hour. Repeated, it changes nothing, so it is done in several transactions: a
    row of `usage` is never missing that is to stay, and no transaction is long.
    """
    live = live_of(connection, PROJECTIONS)
    hours = _hours(connection, leaving)
    counted: dict[Any, Any] = {}
    usage.PROJECTION.fold(counted, _staying(connection, hours, leaving, until), REGISTRY)
    trail = live[audit_trail.PROJECTION.name].version
    for positions in batches(leaving):
        _forget(connection, audit_trail.PROJECTION, trail, positions)
    version = ViewVersion(connection, usage.PROJECTION, live[usage.PROJECTION.name].version)
    for keys in batches(sorted(hours)):
        with connection.transaction():
            _forget(connection, usage.PROJECTION, version.number, keys)
            version.put([counted[key] for key in keys if key in counted])


def _hours(connection: Connection, leaving: Sequence[int]) -> set[bytes]:
    """The keys of `usage` that these events count for."""
    found = set()
    for positions in batches(leaving):
        for entry in _entries(connection, _SQL["leaving"], [binary_arrays.bigints(positions)]):
            if entry.topic in usage.PROJECTION.topics:
                row = usage.PROJECTION.row_of(entry, REGISTRY.decode(entry.topic, entry.state))
                found.add(row.key)
    return found


def _staying(
    connection: Connection, hours: set[bytes], leaving: Sequence[int], until: int
) -> list[LogEntry]:
    streams = {usage.token_of(key) for key in hours}
    asked = {
        "streams": binary_arrays.uuids(streams),
        "topics": list(usage.PROJECTION.topics),
        "until": until,
        "leaving": binary_arrays.bigints(leaving),
    }
    return _entries(connection, _SQL["staying"], asked)


def _entries(connection: Connection, statement: LiteralString, asked: Any) -> list[LogEntry]:
    """Never prepared: a plan that serves all parameters compares each row with each of an array."""
    with connection.cursor(row_factory=args_row(_entry), binary=True) as cursor:
        return cursor.execute(statement, asked, prepare=False).fetchall()


def _forget(
    connection: Connection, projection: Projection, version: int, keys: Sequence[Any]
) -> None:
    schema, _, table = projection.table(version).partition(".")
    statement = with_names(_SQL["forget"], table=(schema, table), key=projection.key_column)
    of_key_type = binary_arrays.OF_TYPE[projection.type_of(projection.key_column)]
    connection.execute(statement, [of_key_type(keys)])
