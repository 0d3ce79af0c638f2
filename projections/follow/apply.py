"""Applying one batch to one version of a view: rows and position in one transaction."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection

from domain.eventstore.event_registry import EventRegistry
from domain.postgres import binary_arrays
from projections.faults import is_of_the_store, is_structural, told
from projections.follow import positions
from projections.follow.stored_keys import StoredKeys
from projections.follow.stream_teams import StreamTeams
from projections.kinds.row_per_event import RowPerEvent
from projections.kinds.row_per_key import RowPerKey
from projections.kinds.row_per_stream import RowPerStream
from projections.projection import LogEntry, Projection, UnappliableEvent, UnknownTopic


class PositionMoved(Exception):
    """Somebody else moved or switched this version meanwhile; nothing was applied."""


def apply_batch(
    connection: Connection,
    projection: Projection,
    version: int,
    entries: Sequence[LogEntry],
    *,
    after: int,
    registry: EventRegistry,
    stream_teams: StreamTeams | None = None,
    stored_keys: StoredKeys | None = None,
    role: str = "live",
) -> None:
    """Fold `entries` (non-empty, in order, the first one after `after`) and move the position to
    the last.

    stream_teams: what earlier batches found out about streams. stored_keys: which rows they stored.
    Raises UnappliableEvent when one cannot be applied, UnknownTopic when this release does not know
    what it is: those before it are applied, then. PositionMoved when the position is not `after`
    any more.
    """
    if stored_keys is None:
        stored_keys = StoredKeys()
    stream_teams = stream_teams or StreamTeams()
    known = _known(projection, entries, registry)
    if known:
        apply = partial(
            _apply_whole,
            connection,
            projection,
            version,
            registry=registry,
            stream_teams=stream_teams,
            stored_keys=stored_keys,
            role=role,
        )
        _apply_or_split(apply, known, after=after)
    if len(known) < len(entries):
        unknown = entries[len(known)]
        raise UnknownTopic(unknown.position, unknown.topic)


def _known(
    projection: Projection, entries: Sequence[LogEntry], registry: EventRegistry
) -> Sequence[LogEntry]:
    """The entries before the first that this release does not know, which is nearly always all."""
    if all(is_known(projection, topic, registry) for topic in {entry.topic for entry in entries}):
        return entries
    return list(takewhile(lambda entry: is_known(projection, entry.topic, registry), entries))


def is_known(projection: Projection, topic: str, registry: EventRegistry) -> bool:
    """Whether this release knows such events, be it that this view has no use for them.

    One that it does not know may change any row: a newer release has written it, and must fold it.
    """
    return topic in projection.topics or topic in registry.topics


def _apply_or_split(apply: Callable[..., None], entries: Sequence[LogEntry], *, after: int) -> None:
    """Apply all of them, or find the one that cannot be by halves."""
    try:
        apply(entries, after=after)
    except Exception as error:
        if isinstance(error, PositionMoved) or is_of_the_store(error):
            raise
        if len(entries) == 1:
            raise UnappliableEvent(entries[0].position, _reason(error, entries[0])) from None
        middle = len(entries) // 2
        for half, start in (
            (entries[:middle], after),
            (entries[middle:], entries[middle - 1].position),
        ):
            _apply_or_split(apply, half, after=start)


@contextmanager
def _of_the_ledger() -> Iterator[None]:
    """Around what touches the ledger's own tables:
    that they are missing or forbidden is no view's fault.
    """
    try:
        yield
    except psycopg.Error as error:
        if is_structural(error):
            raise psycopg.OperationalError(told(error)) from error
        raise


def _reason(error: Exception, entry: LogEntry) -> str:
    name, _, text = told(error).partition(": ")
    return f"{name} on a {entry.topic}" + (text and f": {text}")


def _apply_whole(
    connection: Connection,
    projection: Projection,
    version: int,
    entries: Sequence[LogEntry],
    *,
    after: int,
    registry: EventRegistry,
    stream_teams: StreamTeams,
    stored_keys: StoredKeys,
    role: str,
) -> None:
    mine = [entry for entry in entries if entry.topic in projection.topics]
    with stored_keys.once_committed(connection), connection.transaction():
        # First of all: a batch that is delivered twice gets no further, and two who deliver it wait
        # here.
        with _of_the_ledger():
            move(connection, projection, version, entries[-1].position, after=after, role=role)
            if projection.needs_stream_team:
                mine = stream_teams.with_teams(connection, mine)
        if isinstance(projection, RowPerStream):
            _evolve(connection, projection, version, mine, registry)
        else:
            rows: dict[Any, Any] = {}
            projection.fold(rows, mine, registry)
            put(connection, projection, version, list(rows.values()), stored_keys)


def _evolve(
    connection: Connection,
    projection: RowPerStream,
    version: int,
    entries: list[LogEntry],
    registry: EventRegistry,
) -> None:
    """Set the last ones; load the rows of the others, fold, and store those that changed."""
    folding, setting = _split(projection, entries)
    set_last(connection, projection, version, setting)
    before = load(connection, projection, version, {entry.originator_id for entry in folding})
    rows = dict(before)
    projection.fold(rows, folding, registry)
    changed = [row for key, row in rows.items() if row != before.get(key)]
    put(connection, projection, version, changed)


def _split(
    projection: RowPerStream, entries: list[LogEntry]
) -> tuple[list[LogEntry], dict[UUID, LogEntry]]:
    """What has to be folded; and of each row that nothing but `last_only` changes, the last."""
    if projection.last_only is None:
        return entries, {}
    last_only = projection.last_only.event.topic
    folded = {entry.originator_id for entry in entries if entry.topic != last_only}
    folding: list[LogEntry] = []
    setting: dict[UUID, LogEntry] = {}
    for entry in entries:
        if entry.originator_id in folded:
            folding.append(entry)
        else:
            setting[entry.originator_id] = entry
    return folding, setting


def set_last(
    connection: Connection,
    projection: RowPerStream,
    version: int,
    entries: Mapping[UUID, LogEntry],
) -> None:
    """Set what these entries of `last_only` set. Raises LookupError when a row is not there."""
    if not entries:
        return
    assert projection.last_only is not None
    rows = [(key, *projection.last_only.values(entry)) for key, entry in entries.items()]
    columns = _columns(projection, [projection.key_column, *projection.last_only.columns], rows)
    done = connection.execute(projection.set_last(version), columns, prepare=True)
    if done.rowcount != len(entries):
        raise LookupError("an event of a row that is not there")


def load(
    connection: Connection, projection: RowPerStream, version: int, keys: Collection[Any]
) -> dict[Any, Any]:
    """The stored rows of these streams."""
    if not keys:
        return {}
    with connection.cursor(binary=True) as cursor:
        of_key_type = binary_arrays.OF_TYPE[projection.type_of(projection.key_column)]
        cursor.execute(projection.select_rows(version), [of_key_type(keys)], prepare=True)
        return {columns[0]: projection.row(*columns) for columns in cursor}


def put(
    connection: Connection,
    projection: Projection,
    version: int,
    rows: Sequence[Any],
    stored_keys: StoredKeys | None = None,
) -> None:
    """Insert rows; stored ones are replaced or merged, as the kind of view has it.

    stored_keys: rows that would leave these as they are need not be sent.
    """
    if not rows:
        return
    if isinstance(projection, RowPerEvent):
        copy(connection, projection, version, rows)
        return
    if isinstance(projection, RowPerKey):
        # A stored row that nothing is added to is not even locked, which would write it.
        rows, leaving = projection.split(rows)
        if stored_keys is not None:
            leaving = stored_keys.to_send(projection, version, leaving)
        _put(connection, projection, projection.put_rows(version, keeps_stored=True), leaving)
    _put(connection, projection, projection.put_rows(version), rows)


def _put(
    connection: Connection, projection: Projection, statement: str, rows: Sequence[Any]
) -> None:
    if rows:
        columns = _columns(projection, list(projection.columns), list(map(projection.values, rows)))
        connection.execute(statement, columns, prepare=True)


def copy(connection: Connection, projection: Projection, version: int, rows: Iterable[Any]) -> None:
    """Insert rows, none of which is stored: no statement is cheaper, whatever their number."""
    with connection.cursor() as cursor, cursor.copy(projection.copy_rows(version)) as copying:
        copying.set_types(list(map(projection.type_of, projection.columns)))
        for row in rows:
            copying.write_row(projection.values(row))


def _columns(
    projection: Projection, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[binary_arrays.Array]:
    """Rows as one array for each column, since psycopg adapts a list value after value."""
    return [
        binary_arrays.OF_TYPE[projection.type_of(name)](column)
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    ]


def move(
    connection: Connection,
    projection: Projection,
    version: int,
    position: int,
    *,
    after: int,
    role: str,
) -> None:
    """Record how far a version has come. Raises PositionMoved when it is not `after` any more."""
    moved = connection.execute(
        positions.MOVE, [position, projection.name, version, after, role], prepare=True
    )
    if moved.rowcount != 1:
        raise PositionMoved(projection.name)
