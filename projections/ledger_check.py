"""`scim-ledger verify`: check that all stored state equals what the events lead to.

One connection, constant memory: the streams pass by in order of (originator_id, version), each is
folded as it passes, and what is stored of it is read in the snapshot in which its last event was. A
snapshot is as short as a slice of the ledger: one that is held keeps the dead rows of the doors'
tables alive. A stream is never held, however long it is. What is wrong is named by its place;
nothing of its content is shown.

Events that have left the ledger for the archive are missing in their streams. How many these are
stands in the ledger, and so does how many uses they stand for: no more and no fewer may be missing,
up to where the archive reaches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_interface
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from psycopg import Connection
from psycopg.rows import args_row

from domain.errors import LedgerError
from domain.event import Aggregate, Recorded
from domain.eventstore.aggregates import (
    EndedSecret,
    MovedSecret,
    decode_state,
    fold_rows,
    past_gap,
)
from domain.eventstore.archive.stretches import ArchiveDamaged
from domain.eventstore.event_registry import REGISTRY, EventRegistry
from domain.postgres.sql_file import statements
from projections.archive.gaps import Gaps
from projections.kept_rows import NO_STREAM, SLICE, Damage, Damaged, check_kept_rows, snapshot

STREAMS: Final = 2_000

_SQL: Final = statements("projections", "ledger_check.sql")


@dataclass(frozen=True, slots=True)
class Checked:
    """How much was looked at, and the first thing that is wrong; None when nothing is.

    archived: how many events are in the archive alone.
    """

    events: int
    streams: int
    damage: Damage | None
    archived: int = 0


class _Row(NamedTuple):
    originator_id: UUID
    version: int
    position: int
    topic: str
    at: datetime
    command_id: UUID
    state: bytes


class _Stored(NamedTuple):
    """What is kept of one stream beside its events; None for what is missing."""

    originator_id: UUID
    version: int | None
    last_used_at: datetime | None
    uses: int | None
    kind: str | None
    state: bytes | None


@dataclass(slots=True)
class _Stream:
    """One stream, as far as it was folded.

    kind: what its first topic says. position: of its last event. missing: how many are in the
    archive alone. moved, ended: as of `fold_rows`.
    """

    kind: str
    aggregate: Aggregate | None = None
    position: int = 0
    missing: int = 0
    moved: list[MovedSecret] = field(default_factory=list)
    ended: list[EndedSecret] = field(default_factory=list)

    @property
    def folded(self) -> Aggregate:
        """The aggregate, of which there is one from the first event on."""
        assert self.aggregate is not None
        return self.aggregate


def check_ledger(
    connection: Connection,
    *,
    registry: EventRegistry = REGISTRY,
    report: Callable[[int], None] = lambda _: None,
) -> Checked:
    """Look at the whole ledger, up to the first thing that is wrong.

    connection: autocommit, the app role. report: told the number of events looked at, now and then.
    """
    count, gaps = _Count(report), Gaps(connection)
    try:
        gaps.begin()
        _check_order(connection)
        _check_streams(connection, registry, count, gaps)
        gaps.check()
        check_kept_rows(connection)
    except Damaged as damaged:
        return Checked(count.events, count.streams, damaged.damage, gaps.missing)
    except ArchiveDamaged as error:
        damage = Damage("the archive", str(error))
        return Checked(count.events, count.streams, damage, gaps.missing)
    return Checked(count.events, count.streams, None, gaps.missing)


class _Count:
    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self.events = 0
        self.streams = 0

    def add(self, *, events: int, streams: int) -> None:
        self.events += events
        self.streams += streams
        self._report(self.events)


def _check_order(connection: Connection) -> None:
    position, at = 0, None
    while True:
        with snapshot(connection):
            row = connection.execute(_SQL["instants"], [at, position, SLICE]).fetchone()
        assert row is not None
        count, position, at, twice, earlier = row
        if twice is not None:
            raise Damaged(f"event {twice}", "there is another one at its position")
        if earlier is not None:
            raise Damaged(f"event {earlier}", "ledger time went back")
        if count < SLICE:
            return


def _check_streams(
    connection: Connection, registry: EventRegistry, count: _Count, gaps: Gaps
) -> None:
    """Slice by slice; a stream is compared with what is stored of it in the
    snapshot that showed its end.
    """
    stream: _Stream | None = None
    after, is_more = (NO_STREAM, 0), True
    while is_more:
        finished: list[_Stream] = []
        with snapshot(connection):
            with connection.cursor(row_factory=args_row(_Row), binary=True) as cursor:
                rows = cursor.execute(_SQL["slice"], [*after, SLICE]).fetchall()
            is_more = len(rows) >= SLICE
            for row in rows:
                if stream is not None and row.originator_id != stream.folded.id:
                    finished.append(stream)
                    stream = None
                stream = stream or _Stream(row.topic.partition(".")[0])
                _fold(stream, row, registry, gaps)
            if stream is not None and not is_more:
                finished.append(stream)
            for start in range(0, len(finished), STREAMS):
                _check_stored(connection, finished[start : start + STREAMS], gaps)
        if rows:
            after = rows[-1].originator_id, rows[-1].version
        count.add(events=len(rows), streams=len(finished))


def _fold(stream: _Stream, row: _Row, registry: EventRegistry, gaps: Gaps) -> None:
    """One event further. Raises Damaged."""
    before = stream.aggregate
    where = f"event {row.position} ({row.topic}, version {row.version} of {row.originator_id})"
    expected = 1 if before is None else before.version + 1
    if before is not None and row.version > expected and gaps.may_be(stream.kind, stream.position):
        stream.missing += row.version - expected
        before, expected = past_gap(before, row.version - 1), row.version
    if row.version != expected:
        raise Damaged(where, f"version {expected} is missing before it")
    if row.position <= stream.position:
        raise Damaged(where, "it is before its predecessor in the ledger")
    try:
        event = registry.decode(row.topic, row.state)
    except LedgerError as error:
        raise Damaged(where, str(error)) from None
    try:
        recorded = Recorded(row.originator_id, row.version, row.at, row.command_id, event)
        after = fold_rows(before, recorded, moved=stream.moved, ended=stream.ended)
    except Exception as error:  # noqa: BLE001 - whatever a fold raises, this event does not belong here
        raise Damaged(
            where, f"it cannot follow what is before it ({type(error).__name__})"
        ) from None
    stream.aggregate, stream.position = after, row.position


def _check_stored(connection: Connection, streams: Sequence[_Stream], gaps: Gaps) -> None:
    by_id = {stream.folded.id: stream for stream in streams}
    ids = list(by_id)
    secrets: dict[UUID, set[tuple[Any, ...]]] = {id_: set() for id_ in ids}
    for id_, *columns, networks in connection.execute(_SQL["secrets"], [ids], binary=True):
        secrets[id_].add((*columns, networks and _spelled(networks)))
    with connection.cursor(row_factory=args_row(_Stored), binary=True) as cursor:
        for stored in cursor.execute(_SQL["stored"], [ids]):
            stream = by_id.pop(stored.originator_id, None)
            if stream is None:
                raise Damaged(f"the head of {stored.originator_id}", "there is more than one")
            _check_row(stream, stored, gaps)
            gaps.missing += stream.missing
            _check_secrets(stream, secrets[stored.originator_id])


def _spelled(networks: str) -> str:
    """Networks as we spell them, which is not always the database's way; as wrong as they are."""
    return ",".join(str(ip_interface(each)) for each in networks.split(","))


def _check_row(stream: _Stream, stored: _Stored, gaps: Gaps) -> None:
    replayed = stream.folded
    if stored.version is None or stored.uses is None:
        raise Damaged(f"the head of {replayed.id}", "it is missing")
    if stored.state is None:
        raise Damaged(f"the state row of {replayed.id}", "it is missing")
    if stream.missing and stored.uses > replayed.uses:
        gaps.uses += stored.uses - replayed.uses
        replayed = msgspec.structs.replace(replayed, uses=stored.uses)  # type: ignore[type-var]
    for column in ("version", "last_used_at", "uses"):
        if getattr(stored, column) != getattr(replayed, column):
            raise Damaged(
                f"the head of {replayed.id}", f"its {column} is not what the events lead to"
            )
    if stored.kind != stream.kind:
        raise Damaged(f"the state row of {replayed.id}", "it is of another kind than the events")
    try:
        state = decode_state(
            stream.kind,
            stored.state,
            version=stored.version,
            last_used_at=stored.last_used_at,
            uses=stored.uses,
        )
    except ValueError:  # msgspec's errors, whose text could quote the row
        raise Damaged(f"the state row of {replayed.id}", "it cannot be decoded") from None
    if state != replayed:
        raise Damaged(f"the state row of {replayed.id}", "it is not what the events lead to")


def _check_secrets(stream: _Stream, stored: set[tuple[Any, ...]]) -> None:
    replayed = stream.folded
    names = {secret.after: secret.shown_as for secret in stream.moved}
    expected = {
        (
            row.digest,
            replayed.stream_team,
            None if row.is_void else row.good_until,
            row.is_void,
            names.get(row.digest),
            ",".join(row.networks) or None,
        )
        for row in (*replayed.secret_rows(), *(secret.row for secret in stream.ended))
    }
    if stored == expected:
        return
    known, told = {row[0] for row in stored}, {row[0] for row in expected}
    if told - known:
        what = "one that the events tell of is missing"
    elif known - told:
        what = "there is one that no event tells of"
    else:
        what = "one stands otherwise than the events say"
    raise Damaged(f"the secrets of {replayed.id}", what)
