"""Append new events: the columns that they write, and the statements. The only way in.

Both the gate (asynchronous) and the recorder (the library's synchronous interface) go through here,
inside a transaction that holds the append lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from domain.event import Aggregate, Recorded
from domain.eventstore.aggregates import EndedSecret, MovedSecret, encode_state, name_of
from domain.eventstore.event_registry import EventRegistry
from domain.postgres import binary_arrays
from domain.postgres.binary_arrays import Array
from domain.postgres.sql_file import statements

BEGIN: Final[LiteralString] = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Named here as well as by the session: with one snapshot for all, the statements after the lock
would decide on what was before it. The lock itself refuses any other (migration 0005)."""

_SQL: Final = statements("domain.eventstore", "sql/append.sql")
LOCK: Final = _SQL["lock"]
MAY_APPEND: Final = _SQL["may_append"]
LEDGER_TIME: Final = _SQL["ledger_time"]
LAST_INSTANT: Final = _SQL["last_instant"]
LOAD: Final = _SQL["load"]
LIST_POLICIES: Final = _SQL["list_policies"]
HELD: Final = _SQL["held"]
RECORD_USES: Final = _SQL["record_uses"]
KNOWN_COMMANDS: Final = _SQL["known_commands"]
LIVE_TOKENS: Final = _SQL["live_tokens"]
TIME_AND_RETIRED_KEYS: Final = _SQL["time_and_retired_keys"]
BEGAN_AT: Final = _SQL["began_at"]
MOVE_SECRETS: Final = _SQL["move_secrets"]
STORE: Final = _SQL["store"]
TOUCH_COMMANDS: Final = _SQL["touch_commands"]
PUT_COMMANDS: Final = _SQL["put_commands"]
"""What each returns, locks and needs stands beside its text."""


def columns(
    registry: EventRegistry,
    recorded: Sequence[Recorded],
    changed: Mapping[UUID, Aggregate],
    ended: Iterable[EndedSecret],
) -> Sequence[Array]:
    """The parameters of STORE: `recorded`, and the states that they led to.

    changed: the state of each aggregate after its last event of `recorded`.
    ended: what these states no longer hold, and an event before the last one had.
    """
    aggregates = list(changed.values())
    ids = binary_arrays.uuids(a.id for a in aggregates)
    secrets = [
        *((a, row) for a in aggregates for row in a.secret_rows()),
        *((changed[secret.originator_id], secret.row) for secret in ended),
    ]
    return (
        binary_arrays.uuids(r.originator_id for r in recorded),
        binary_arrays.bigints(r.originator_version for r in recorded),
        binary_arrays.texts(r.event.topic for r in recorded),
        binary_arrays.instants(r.at for r in recorded),
        binary_arrays.uuids(r.command_id for r in recorded),
        binary_arrays.byteas(registry.encode(r.event) for r in recorded),
        ids,
        binary_arrays.bigints(a.version for a in aggregates),
        binary_arrays.instants(a.last_used_at for a in aggregates),
        binary_arrays.bigints(a.uses for a in aggregates),
        ids,
        binary_arrays.texts(name_of(a) for a in aggregates),
        binary_arrays.byteas(encode_state(a) for a in aggregates),
        binary_arrays.byteas(row.digest for _, row in secrets),
        binary_arrays.uuids(a.id for a, _ in secrets),
        binary_arrays.uuids(a.stream_team for a, _ in secrets),
        binary_arrays.instants(row.good_until for _, row in secrets),
        binary_arrays.booleans(row.is_void for _, row in secrets),
        binary_arrays.texts(_array_literal(row.networks) for _, row in secrets),
    )


def _array_literal(networks: Sequence[str]) -> str | None:
    """An array as PostgreSQL reads it, for an array of such; None of one that is empty."""
    return f"{{{','.join(networks)}}}" if networks else None


def moves(moved: Sequence[MovedSecret]) -> Sequence[Array]:
    """The parameters of MOVE_SECRETS, which goes before STORE."""
    return (
        binary_arrays.byteas(secret.before for secret in moved),
        binary_arrays.byteas(secret.after for secret in moved),
        binary_arrays.texts(secret.shown_as for secret in moved),
    )


def positioned(
    aggregate_id: UUID, after: int, events: Iterable[Any], *, at: datetime, command_id: UUID
) -> list[Recorded]:
    """New events at the end of a stream whose last version is `after`."""
    return [
        Recorded(aggregate_id, version, at, command_id, event)
        for version, event in enumerate(events, start=after + 1)
    ]
