"""Repair a ledger whose time is ahead of every clock, or whose states are not what its events say.

Since `ledger.ledger_time` compares clocks, no process of ours can make that happen; a ledger of
before, or one whose database's own clock was wrong for a while, may have it behind it. Its events
of that stretch all stand at an instant that has not come yet, and tokens expire by it.

Run by the owner, while no service runs, in one transaction. What an event said before is kept
beside it (`ledger.repaired_events`), so nothing is changed in silence and everything can be told
apart later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from psycopg import Connection

from domain.api_token import events as api_token
from domain.errors import LedgerError, PepperMismatch
from domain.event import Aggregate, Event, Recorded
from domain.eventstore import append
from domain.eventstore.aggregates import EndedSecret, MovedSecret, fold_rows, past_gap
from domain.eventstore.archive.missing import require_whole
from domain.eventstore.archive.stretches import stretches
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.ledger_clock import AHEAD_MAX, skew_of
from domain.eventstore.peppers.fingerprints import require_pepper
from domain.postgres import binary_arrays
from domain.postgres.sql_file import statements
from domain.scim_token import events as scim_token
from domain.scim_token import warnings
from domain.secret import Pepper

_BATCH: Final = 5_000
_STREAMS: Final = 500

_TOLD: Final = [
    event.topic
    for event in (
        scim_token.RotationFinished,
        warnings.Expiring,
        warnings.Expired,
        warnings.Unused,
        warnings.RotationEnding,
        warnings.OldSecretStillUsed,
    )
]
"""What was perhaps not true by a clock that is right, and is to be told once it is."""

_SQL: Final = statements("domain.eventstore", "sql/repair.sql")


class NotRepairable(LedgerError):
    """The repair cannot be done as things are; the text says what to do first."""


@dataclass(frozen=True, slots=True)
class TimeRepair:
    """What was set right. first, last: notification ids. until: where ledger time stood.

    since: the last instant before the jump. streams: how many were derived anew.
    """

    events: int
    first: int
    last: int
    until: datetime
    since: datetime
    streams: int


def repair_ledger_time(
    connection: Connection, *, clock: datetime, by: str, reason: str
) -> TimeRepair | None:
    """Bring back every event that is ahead of the database's clock; None where there is none.

    What is ahead no further than a process may be (AHEAD_MAX) is sound.

    connection: the owner, in a transaction that the caller ends (rolled back, it was a trial).
    An event gets the latest instant that it is known not to be before: that of the last one before
    the jump, or the arrival that a later use noted by a clock that was right. Instants that were
    reckoned from it move with it: the end of an overlap, the end of an API token's lifetime. What a
    caller asked for stays. clock: now, of this machine. Raises NotRepairable while a service runs,
    and where the two clocks disagree: by one that is behind, good events are ahead. Raises
    UnreadableEvent for one of a later release.
    """
    _require_one_time(connection, clock)
    begin(connection)
    row = connection.execute(_SQL["stretch"], [AHEAD_MAX]).fetchone()
    assert row is not None
    first, last, until, now, since = row
    if first is None:
        return None
    repair_id = record(connection, "ledger-time", by=by, reason=reason)
    events = _set_back(connection, repair_id, first=first, since=since, now=now)
    streams = _derive_all(connection, first)
    connection.execute(_SQL["forget_commands"], [first, _TOLD])
    connection.execute(_SQL["set_commands_back"], {"now": now})
    return TimeRepair(events, first, last, until, since, streams)


def repair_states(connection: Connection, *, by: str, reason: str) -> int:
    """Derive all that is stored beside the events anew: heads, states and secrets' rows;
    returns the number of streams.

    connection: the owner, in a transaction that the caller ends. No event is changed, and a row
    that no event tells of stays: somebody put it there. Raises NotRepairable while a service runs,
    EventsMissing where the events are not whole, UnreadableEvent for one of a later release.
    """
    begin(connection)
    record(connection, "states", by=by, reason=reason)
    return _derive_all(connection, 1)


def begin(connection: Connection) -> None:
    """Take the time that a repair may need, and the append lock. Raises NotRepairable while a
    service runs: it remembers what it refused, and until when, by what is about to change.
    """
    connection.execute(_SQL["take_time"])
    connection.execute(append.LOCK)
    require_no_service(connection)


def record(connection: Connection, kind: str, *, by: str, reason: str) -> int:
    """Put a repair on record; returns its id."""
    ((id_,),) = connection.execute(_SQL["record"], [kind, by, reason]).fetchall()
    return int(id_)


def require_no_service(connection: Connection) -> None:
    """Raise NotRepairable while a service, or another command, is connected to the ledger."""
    row = connection.execute(_SQL["count_services"]).fetchone()
    if row is None or row[0]:
        raise NotRepairable("a service is connected to this ledger: stop every one, then repeat")


def _require_one_time(connection: Connection, clock: datetime) -> None:
    try:
        connection.execute(append.LEDGER_TIME, [clock])
    except psycopg.Error as error:
        if skew := skew_of(error):
            raise NotRepairable(f"{skew}: set both right (NTP), then look again") from error
        raise


def _is_of_the_ledger(pepper: Pepper, connection: Connection) -> bool:
    """Whether the ledger knows its keys, and these are all of them."""
    try:
        with connection.transaction():
            return require_pepper(connection, pepper) > 0
    except PepperMismatch:
        return False


def give_up_pepper(connection: Connection, *, pepper: Pepper | None, by: str, reason: str) -> int:
    """Let the ledger take a new pepper, its own being lost for good;
    returns how many generations it forgets.

    connection: the owner, in a transaction that the caller ends. Every secret so far stays void.
    pepper: what is set now, if it can be read. Raises NotRepairable where that is the ledger's, and
    while a service runs: it would go on under the keys that it has, beside others under new ones.
    """
    if pepper is not None and _is_of_the_ledger(pepper, connection):
        raise NotRepairable(
            "the pepper that is set is the one of this ledger, so it is not lost: nothing was "
            "changed; to take another, rotate it (docs/how-to/rotate-the-pepper.md)"
        )
    require_no_service(connection)
    record(connection, "pepper", by=by, reason=reason)
    return connection.execute(_SQL["forget_peppers"]).rowcount


def _set_back(
    connection: Connection, repair_id: int, *, first: int, since: datetime, now: datetime
) -> int:
    at, count = since, 0
    with connection.cursor(name="jumped", binary=True) as cursor:
        cursor.execute(_SQL["events"], [first])
        while rows := cursor.fetchmany(_BATCH):
            changed: list[tuple[int, str, datetime, bytes]] = []
            for position, topic, was_at, state in rows:
                event = REGISTRY.decode(topic, state)
                if isinstance(event, scim_token.Used) and event.first_at <= now:
                    at = max(at, event.first_at)
                moved = _moved(event, at=at, back=was_at - at)
                same = moved is event
                changed.append(
                    (
                        position,
                        topic if same else moved.topic,
                        at,
                        state if same else REGISTRY.encode(moved),
                    )
                )
            _write(connection, repair_id, changed)
            count += len(changed)
    return count


def _write(
    connection: Connection, repair_id: int, changed: Sequence[tuple[int, str, datetime, bytes]]
) -> None:
    ids = binary_arrays.bigints(position for position, *_ in changed)
    connection.execute(_SQL["keep"], [repair_id, ids])
    columns = (
        binary_arrays.texts(topic for _, topic, _, _ in changed),
        binary_arrays.instants(at for _, _, at, _ in changed),
        binary_arrays.byteas(state for *_, state in changed),
    )
    connection.execute(_SQL["set_back"], [ids, *columns])


def _moved(event: Event, *, at: datetime, back: timedelta) -> Event:
    """The same event, at `at`: instants that were reckoned from ledger time go back with it."""
    match event:
        case scim_token.Used() if event.first_at > at:
            return msgspec.structs.replace(event, first_at=at)
        case scim_token.Rotated() | api_token.Rotated():
            return msgspec.structs.replace(event, overlap_until=event.overlap_until - back)
        case scim_token.SetupLinkCreated():
            return msgspec.structs.replace(event, ends_at=event.ends_at - back)
        case scim_token.RotationFinished(cause="silent"):
            return msgspec.structs.replace(event, cause="mistaken")
        case api_token.Created(expires_at=datetime(), is_end_asked_for=False):
            assert event.expires_at is not None
            return msgspec.structs.replace(event, expires_at=event.expires_at - back)
        case _:
            return event


def _derive_all(connection: Connection, first: int) -> int:
    """Every stream with an event from the position `first` on; returns how many there are."""
    touched = [id_ for (id_,) in connection.execute(_SQL["touched_streams"], [first])]
    derive(connection, touched)
    return len(touched)


def derive(connection: Connection, ids: Sequence[UUID]) -> None:
    """Heads, states and secrets of these streams anew. Raises EventsMissing: of a ledger with an
    archive, a gap alone does not tell whether one that is missing has left.
    """
    require_whole(connection)
    for start in range(0, len(ids), _STREAMS):
        _derive(connection, ids[start : start + _STREAMS])


def _derive(connection: Connection, ids: Sequence[UUID]) -> None:
    """Heads, states and secrets of these streams, from their events."""
    until = max((stretch.until for stretch in stretches(connection)), default=0)
    counted: dict[UUID, int] = {}
    if until:
        counted.update(connection.execute(_SQL["uses"], [list(ids)]).fetchall())
    with connection.cursor(name="streams", binary=True) as cursor:
        cursor.itersize = _BATCH
        rows = cursor.execute(_SQL["replay"], [list(ids)])
        ended: list[EndedSecret] = []
        moved: list[MovedSecret] = []
        states = {
            id_: _fold(stream, ended, moved, archived_until=until, uses=counted.get(id_, 0))
            for id_, stream in groupby(rows, key=lambda row: row[0])
        }
    held = [row for state in states.values() for row in state.secret_rows()]
    digests = [row.digest for row in (*held, *(each.row for each in ended))]
    # An append changes of a row what its events may change; here any of its columns may be wrong.
    connection.execute(_SQL["forget_derived"], {"ids": list(ids), "digests": digests})
    connection.execute(append.STORE, append.columns(REGISTRY, [], states, ended))
    _, after, shown_as = append.moves(moved)
    connection.execute(_SQL["name_secrets"], [after, shown_as])


def _fold(
    stream: Iterable[tuple[Any, ...]],
    ended: list[EndedSecret],
    moved: list[MovedSecret],
    *,
    archived_until: int,
    uses: int,
) -> Aggregate:
    """The state; into `ended` the secrets that it let go, into `moved` those digested anew.

    archived_until: up to which position events may be in the archive alone. uses: what the head
    says, which is believed where some are.
    """
    state: Aggregate | None = None
    before, is_whole = 0, True
    for id_, version, at, command_id, topic, stored, position in stream:
        if state is not None and version > state.version + 1 and before < archived_until:
            state, is_whole = past_gap(state, version - 1), False
        recorded = Recorded(id_, version, at, command_id, REGISTRY.decode(topic, stored))
        state, before = fold_rows(state, recorded, moved=moved, ended=ended), position
    assert state is not None
    if is_whole:
        return state
    counted: Aggregate = msgspec.structs.replace(state, uses=max(uses, state.uses))  # type: ignore[type-var]
    return counted
