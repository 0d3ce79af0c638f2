"""`scim-ledger verify`: everything that is stored beside the events equals what the events lead to.

One snapshot, one connection, constant memory: the streams pass by in order of (originator_id, version), each
is folded as it passes, and what is stored of it is fetched for a few thousand streams at once. A stream is
never held, however long it is. What is wrong is named by its place; nothing of its content is shown.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple, TypeAlias
from uuid import UUID

from psycopg import Connection
from psycopg.rows import args_row

from domain.errors import LedgerError
from domain.event import Aggregate, Recorded
from domain.eventstore.aggregates import decode_state, evolve
from domain.eventstore.registry import REGISTRY, EventRegistry

FETCH: Final = 10_000
STREAMS: Final = 2_000

_STREAMS: Final[LiteralString] = """
    DECLARE streams NO SCROLL CURSOR FOR
    SELECT originator_id, originator_version, notification_id, topic, at, command_id, state
    FROM ledger.events ORDER BY originator_id, originator_version
"""
"""By the primary key, or by a sort on disk where the planner prefers it."""

_STORED: Final[LiteralString] = """
    SELECT i.id, h.version, h.last_used_at, h.uses, a.kind, a.state
    FROM unnest(%s::uuid[]) AS i (id)
    LEFT JOIN ledger.heads h ON h.originator_id = i.id
    LEFT JOIN ledger.aggregates a ON a.originator_id = i.id
"""

_SECRETS: Final[LiteralString] = """
    SELECT originator_id, digest, owner_id, CASE WHEN isfinite(good_until) THEN good_until END,
        good_until = '-infinity'
    FROM ledger.secrets WHERE originator_id = ANY(%s)
"""

_ORPHANS: Final[LiteralString] = """
    SELECT kind, originator_id FROM (
        SELECT 'head', originator_id FROM ledger.heads
        UNION ALL SELECT 'state row', originator_id FROM ledger.aggregates
        UNION ALL SELECT 'secret', originator_id FROM ledger.secrets
    ) AS kept (kind, originator_id)
    WHERE NOT EXISTS (
        SELECT FROM ledger.events e WHERE e.originator_id = kept.originator_id AND e.originator_version = 1
    )
    ORDER BY originator_id, kind LIMIT 1
"""

_TIME: Final[LiteralString] = """
    SELECT notification_id FROM (
        SELECT notification_id, at, lag(at) OVER (ORDER BY notification_id) AS before FROM ledger.events
    ) e WHERE at < before ORDER BY notification_id LIMIT 1
"""
"""Along the index on notification_id: no sort, one row in memory."""

_POSITIONS: Final[LiteralString] = """
    SELECT p.name, p.version,
        p.position > coalesce((SELECT max(notification_id) FROM ledger.events), 0),
        to_regclass('views.' || p.name || '_v' || p.version) IS NULL
    FROM ledger.projection_positions p WHERE p.role = 'live' ORDER BY p.name, p.version
"""

Found: TypeAlias = "Damage | None"


@dataclass(frozen=True, slots=True)
class Damage:
    """The first thing that is wrong. where: which row. what: in which way, without its content."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verified:
    """How much was looked at, and the first thing that is wrong; None when nothing is."""

    events: int
    streams: int
    damage: Damage | None


class _Damaged(Exception):
    def __init__(self, where: str, what: str) -> None:
        super().__init__(where)
        self.damage = Damage(where, what)


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


class _Stream(NamedTuple):
    """One stream, folded to its end."""

    kind: str
    aggregate: Aggregate


def verify_ledger(
    connection: Connection,
    *,
    registry: EventRegistry = REGISTRY,
    report: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Look at the whole ledger, up to the first thing that is wrong.

    connection: autocommit, the app role. report: told the number of events looked at, now and then.
    """
    count = _Count(report)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        try:
            _check_order(connection)
            _check_streams(connection, registry, count)
            _check_orphans(connection)
            _check_positions(connection)
        except _Damaged as damaged:
            return Verified(count.events, count.streams, damaged.damage)
    return Verified(count.events, count.streams, None)


class _Count:
    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self.events = 0
        self.streams = 0

    def add(self, events: int) -> None:
        self.events += events
        self._report(self.events)


def _check_order(connection: Connection) -> None:
    row = connection.execute(_TIME).fetchone()
    if row is not None:
        raise _Damaged(f"event {row[0]}", "ledger time went back")


def _check_streams(connection: Connection, registry: EventRegistry, count: _Count) -> None:
    finished: dict[UUID, _Stream] = {}
    for stream in _streams(connection, registry, count):
        finished[stream.aggregate.id] = stream
        count.streams += 1
        if len(finished) == STREAMS:
            _check_stored(connection, finished)
            finished.clear()
    _check_stored(connection, finished)


def _streams(connection: Connection, registry: EventRegistry, count: _Count) -> Iterator[_Stream]:
    """Every stream of the ledger, folded event by event as the cursor passes."""
    folded: Aggregate | None = None
    kind, position = "", 0
    with _cursor(connection) as fetch:
        while rows := fetch():
            for row in rows:
                if folded is not None and row.originator_id != folded.id:
                    yield _Stream(kind, folded)
                    folded = None
                if folded is None:
                    kind, position = row.topic.partition(".")[0], 0
                folded = _next(folded, row, after=position, registry=registry)
                position = row.position
            count.add(len(rows))
    if folded is not None:
        yield _Stream(kind, folded)


def _next(folded: Aggregate | None, row: _Row, *, after: int, registry: EventRegistry) -> Aggregate:
    """One event further. Raises _Damaged."""
    where = f"event {row.position} ({row.topic}, version {row.version} of {row.originator_id})"
    expected = 1 if folded is None else folded.version + 1
    if row.version != expected:
        raise _Damaged(where, f"version {expected} is missing before it")
    if row.position <= after:
        raise _Damaged(where, "it is before its predecessor in the ledger")
    try:
        event = registry.decode(row.topic, row.state)
    except LedgerError as error:
        raise _Damaged(where, str(error)) from None
    try:
        return evolve(folded, Recorded(row.originator_id, row.version, row.at, row.command_id, event))
    except Exception as error:  # noqa: BLE001 - whatever a fold raises, this event does not belong here
        raise _Damaged(where, f"it cannot follow what is before it ({type(error).__name__})") from None


def _check_stored(connection: Connection, streams: dict[UUID, _Stream]) -> None:
    ids = list(streams)
    secrets: dict[UUID, set[tuple[Any, ...]]] = {id_: set() for id_ in ids}
    for id_, *columns in connection.execute(_SECRETS, [ids], binary=True):
        secrets[id_].add(tuple(columns))
    with connection.cursor(row_factory=args_row(_Stored), binary=True) as cursor:
        for stored in cursor.execute(_STORED, [ids]):
            stream = streams[stored.originator_id]
            _check_row(stream, stored)
            _check_secrets(stream.aggregate, secrets[stored.originator_id])


def _check_row(stream: _Stream, stored: _Stored) -> None:
    replayed = stream.aggregate
    if stored.version is None or stored.uses is None:
        raise _Damaged(f"the head of {replayed.id}", "it is missing")
    if stored.state is None:
        raise _Damaged(f"the state row of {replayed.id}", "it is missing")
    for column in ("version", "last_used_at", "uses"):
        if getattr(stored, column) != getattr(replayed, column):
            raise _Damaged(f"the head of {replayed.id}", f"its {column} is not what the events lead to")
    if stored.kind != stream.kind:
        raise _Damaged(f"the state row of {replayed.id}", "it is of another kind than the events")
    try:
        state = decode_state(
            stream.kind,
            stored.state,
            version=stored.version,
            last_used_at=stored.last_used_at,
            uses=stored.uses,
        )
    except ValueError:  # msgspec's errors, whose text could quote the row
        raise _Damaged(f"the state row of {replayed.id}", "it cannot be decoded") from None
    if state != replayed:
        raise _Damaged(f"the state row of {replayed.id}", "it is not what the events lead to")


def _check_secrets(replayed: Aggregate, stored: set[tuple[Any, ...]]) -> None:
    expected = {
        (row.digest, replayed.owner_id, None if row.is_void else row.good_until, row.is_void)
        for row in replayed.secret_rows()
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
    raise _Damaged(f"the secrets of {replayed.id}", what)


def _check_orphans(connection: Connection) -> None:
    row = connection.execute(_ORPHANS).fetchone()
    if row is not None:
        raise _Damaged(f"the {row[0]} of {row[1]}", "no event tells of it")


def _check_positions(connection: Connection) -> None:
    for name, version, is_ahead, is_missing in connection.execute(_POSITIONS).fetchall():
        if is_missing:
            raise _Damaged(f"the view {name}", f"the table of its version {version} is missing")
        if is_ahead:
            raise _Damaged(f"the view {name}", "its position is beyond the ledger's head")


@contextmanager
def _cursor(connection: Connection) -> Iterator[Callable[[], list[_Row]]]:
    """A cursor in the database, with which other statements may alternate."""
    connection.execute(_STREAMS)
    cursor = connection.cursor(row_factory=args_row(_Row), binary=True)
    try:
        yield lambda: cursor.execute(f"FETCH {FETCH} FROM streams".encode()).fetchall()
    finally:
        cursor.close()
