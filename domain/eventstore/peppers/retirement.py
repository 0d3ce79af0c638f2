"""Retire a key of the pepper: as the owner, in one transaction, while services run.

Who could still be let in under the key is found without the append lock, for that reads the state
of every token. Under the lock only those are looked at that changed meanwhile: a process that lacks
the newest key may have made a secret. From the commit on, the append gate refuses what such a
process would make (`command_batch.py`).
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final, LiteralString
from uuid import UUID

from psycopg import Connection

from domain.event import Actor, Recorded
from domain.eventstore import append
from domain.eventstore.aggregates import decode_states, evolve
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.ledger_clock import AHEAD_MAX
from domain.keyring import retirement as keyring
from domain.postgres.sql_file import statements

SLACK: Final = timedelta(seconds=10) + AHEAD_MAX
"""What has just ended by the database's clock may not have by that of a process."""

_SQL: Final = statements("domain.eventstore.peppers", "sql/peppers.sql")
HOLDERS: Final = _SQL["holders"]
HOLDERS_AMONG: Final = _SQL["holders_among"]
"""What each reads, and by which index, stands beside its text."""


def retire_key(
    connection: Connection,
    generation: int,
    *,
    by: Actor,
    reason: str,
    clock: Callable[[], datetime],
    command_id: UUID,
) -> datetime:
    """Retire a key; when it was, also where that was before.

    connection: the owner, in a transaction that the caller ends. clock: of this machine, read
    under the lock, for it may take a minute until then.
    Raises what `keyring.retire` raises.
    """
    connection.execute(_SQL["take_time"])
    since, after = _reached(connection)
    holders = _holders(connection, HOLDERS, generation=generation, after=after)
    decide = partial(keyring.retire, generation, by=by, reason=reason)
    decide(known=_known(connection), holders=holders)
    connection.execute(_SQL["wait_briefly"])
    connection.execute(append.LOCK)
    connection.execute(_SQL["hold_briefly"])
    _, after = _reached(connection)
    changed = [id_ for (id_,) in connection.execute(_SQL["changed_since"], [since])]
    among = {"generation": generation, "after": after, "among": changed}
    holders = _holders(connection, HOLDERS_AMONG, **among)
    events = decide(known=_known(connection), holders=holders)
    if events:
        at = _store(connection, events, clock=clock, command_id=command_id)
        connection.execute(_SQL["retire"], [at, generation])
    retired_at = _known(connection)[generation]
    assert retired_at is not None
    return retired_at


def _reached(connection: Connection) -> tuple[int, datetime]:
    row = connection.execute(_SQL["reached"], [SLACK]).fetchone()
    assert row is not None
    return row[0], row[1]


def _known(connection: Connection) -> dict[int, datetime | None]:
    return dict(connection.execute(_SQL["known_keys"]).fetchall())


def _holders(connection: Connection, statement: LiteralString, **asked: object) -> keyring.Holders:
    rows = connection.execute(statement, asked).fetchall()
    return keyring.Holders(rows[0][0] if rows else 0, [(kind, id_) for _, kind, id_ in rows])


def _store(
    connection: Connection,
    events: list[keyring.Retired],
    *,
    clock: Callable[[], datetime],
    command_id: UUID,
) -> datetime:
    """Append the events; their instant."""
    row = connection.execute(append.LEDGER_TIME, [clock()]).fetchone()
    assert row is not None
    at: datetime = row[0]
    loaded = connection.execute(append.LOAD, [[keyring.KEYRING_ID]])
    state = decode_states(loaded).get(keyring.KEYRING_ID)
    after = 0 if state is None else state.version
    recorded: list[Recorded] = append.positioned(
        keyring.KEYRING_ID, after, events, at=at, command_id=command_id
    )
    for each in recorded:
        state = evolve(state, each)
    assert state is not None
    connection.execute(append.STORE, append.columns(REGISTRY, recorded, {state.id: state}, []))
    return at
