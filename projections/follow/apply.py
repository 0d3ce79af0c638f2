"""Applying one batch to one version of a view: rows and position in one transaction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any
from uuid import UUID

import psycopg

from domain.eventstore.event_registry import EventRegistry
from projections.faults import is_of_the_store, is_structural, told
from projections.follow.stored_keys import StoredKeys
from projections.follow.stream_teams import StreamTeams
from projections.follow.view_version import PositionMoved, ViewVersion
from projections.kinds.row_per_stream import RowPerStream
from projections.projection import LogEntry, Projection, UnappliableEvent, UnknownTopic


class BatchApplier:
    """Applies batches, and remembers what earlier ones found out about streams.

    stored_keys: remembers which rows they stored; None where a batch may be part of a transaction
    that is not committed yet.
    """

    def __init__(self, registry: EventRegistry, *, stored_keys: StoredKeys | None = None) -> None:
        self._registry = registry
        self._stored_keys = stored_keys
        self._stream_teams = StreamTeams()

    def apply(self, version: ViewVersion, entries: Sequence[LogEntry], *, after: int) -> None:
        """Fold `entries` (non-empty, in order, the first one after `after`) and move the position
        to the last.

        Raises UnappliableEvent when one cannot be applied, UnknownTopic when this release does not
        know what it is: those before it are applied, then. PositionMoved when the position is not
        `after` any more.
        """
        known = _known(version.projection, entries, self._registry)
        if known:
            self._apply_or_split(version, known, after=after)
        if len(known) < len(entries):
            unknown = entries[len(known)]
            raise UnknownTopic(unknown.position, unknown.topic)

    def _apply_or_split(
        self, version: ViewVersion, entries: Sequence[LogEntry], *, after: int
    ) -> None:
        """Apply all of them, or find the one that cannot be by halves."""
        try:
            self._apply_whole(version, entries, after=after)
        except Exception as error:
            if isinstance(error, PositionMoved) or is_of_the_store(error):
                raise
            if len(entries) == 1:
                raise UnappliableEvent(entries[0].position, _reason(error, entries[0])) from None
            middle = len(entries) // 2
            self._apply_or_split(version, entries[:middle], after=after)
            self._apply_or_split(version, entries[middle:], after=entries[middle - 1].position)

    def _apply_whole(
        self, version: ViewVersion, entries: Sequence[LogEntry], *, after: int
    ) -> None:
        connection, projection = version.connection, version.projection
        stored_keys = StoredKeys() if self._stored_keys is None else self._stored_keys
        mine = [entry for entry in entries if entry.topic in projection.topics]
        with stored_keys.once_committed(connection), connection.transaction():
            # First of all: a batch that is delivered twice gets no further, and two who deliver it
            # wait here.
            with _of_the_ledger():
                version.move(entries[-1].position, after=after)
                if projection.needs_stream_team:
                    mine = self._stream_teams.with_teams(connection, mine)
            if isinstance(projection, RowPerStream):
                _evolve(version, projection, mine, self._registry)
            else:
                rows: dict[Any, Any] = {}
                projection.fold(rows, mine, self._registry)
                version.put(list(rows.values()), stored_keys)


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


def _evolve(
    version: ViewVersion,
    projection: RowPerStream,
    entries: list[LogEntry],
    registry: EventRegistry,
) -> None:
    """Set the last ones; load the rows of the others, fold, and store those that changed."""
    folding, setting = _split(projection, entries)
    version.set_last(setting)
    before = version.load({entry.originator_id for entry in folding})
    rows = dict(before)
    projection.fold(rows, folding, registry)
    version.put([row for key, row in rows.items() if row != before.get(key)])


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
