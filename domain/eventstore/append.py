"""The one way rows get into the ledger: what a set of new events writes, as columns, and the statements.

Both the gate (asynchronous) and the recorder (the library's synchronous interface) go through here, inside a
transaction that holds the append lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from domain.event import Aggregate, Recorded
from domain.eventstore import arrays
from domain.eventstore.aggregates import encode_state, name_of
from domain.eventstore.arrays import Array
from domain.eventstore.registry import EventRegistry

BEGIN: Final[LiteralString] = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Named here as well as by the session: with one snapshot for all, the statements after the lock would decide
on what was before it. The lock itself refuses any other (migration 0005)."""

LOCK: Final[LiteralString] = "SELECT ledger.lock_appends()"
"""Waits at most lock_timeout. Conflicts with nothing but other appends: VACUUM and index builds go on."""

LEDGER_TIME: Final[LiteralString] = "SELECT ledger.ledger_time(%s)"
"""After the lock: no later event can exist, so the answer is this transaction's instant.

Raises SQLSTATE SL001 for an instant that is away from the database's clock (`clock.py`).
"""

LOAD: Final[LiteralString] = """
    SELECT a.originator_id, a.kind, a.state, h.version, h.last_used_at, h.uses
    FROM ledger.aggregates a CROSS JOIN LATERAL (
        SELECT version, last_used_at, uses FROM ledger.heads
        WHERE originator_id = a.originator_id ORDER BY chapter DESC LIMIT 1
    ) h
    WHERE a.originator_id = ANY(%s)
"""
"""State rows by primary key, in no order. Never replays a stream, and of a stream's head passes no dead
version but those of its newest chapter."""

LIST_API_TOKENS: Final[LiteralString] = """
    SELECT a.state, h.version, h.last_used_at, h.uses
    FROM ledger.aggregates a JOIN ledger.heads h USING (originator_id) WHERE a.kind = 'api_token'
"""
"""By the partial index on kind; in no order."""

HELD: Final[LiteralString] = """
    SELECT digest, originator_id, owner_id FROM ledger.secrets WHERE digest = ANY(%s) AND owner_id IS NOT NULL
"""
"""Whose secret this is, good or not: at most one row, by primary key. API tokens have no owner."""

RECORD_USES: Final[LiteralString] = """
    SELECT ordinal, token_id::text, team_id::text, is_good, used_at, is_void
    FROM ledger.record_uses($1, $2, $3, $4, $5)
"""
"""Takes the lock itself; run through libpq (`prepared.py`). One row per stored digest, in no order."""

KNOWN_COMMANDS: Final[LiteralString] = """
    SELECT command_id, attempt, originator_id, request FROM ledger.commands
    WHERE command_id = ANY(%s) AND at > (SELECT ledger.ledger_time(%s)) - interval '24 hours'
"""
"""Those of the last day of ledger time."""

STORE: Final[LiteralString] = """
    WITH stored AS (
        INSERT INTO ledger.events (originator_id, originator_version, topic, at, command_id, state)
        SELECT e.originator_id, e.version, e.topic, e.at, e.command_id, e.state
        FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::timestamptz[], %s::uuid[], %s::bytea[])
            WITH ORDINALITY AS e (originator_id, version, topic, at, command_id, state, ord)
        ORDER BY e.ord
        RETURNING notification_id
    ), heads AS MATERIALIZED (
        SELECT p.*, found.place
        FROM unnest(%s::uuid[], %s::bigint[], %s::timestamptz[], %s::bigint[])
            AS p (originator_id, version, last_used_at, uses)
        LEFT JOIN LATERAL (
            SELECT ctid AS place FROM ledger.heads WHERE originator_id = p.originator_id
            ORDER BY chapter DESC LIMIT 1
        ) found ON true
    ), moved AS (
        UPDATE ledger.heads h
        SET version = new.version, chapter = new.version >> 6, last_used_at = new.last_used_at,
            uses = new.uses
        FROM heads new WHERE h.ctid = new.place
    ), begun AS (
        INSERT INTO ledger.heads (originator_id, version, chapter, last_used_at, uses)
        SELECT originator_id, version, version >> 6, last_used_at, uses FROM heads WHERE place IS NULL
    ), aggregates AS (
        INSERT INTO ledger.aggregates (originator_id, kind, state)
        SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bytea[])
        ON CONFLICT (originator_id) DO UPDATE SET state = excluded.state
    ), secrets AS (
        INSERT INTO ledger.secrets (digest, originator_id, owner_id, good_until)
        SELECT digest, originator_id, owner_id,
            CASE WHEN is_void THEN '-infinity' ELSE coalesce(good_until, 'infinity') END
        FROM unnest(%s::bytea[], %s::uuid[], %s::uuid[], %s::timestamptz[], %s::bool[])
            AS p (digest, originator_id, owner_id, good_until, is_void)
        ON CONFLICT (digest) DO UPDATE SET good_until = excluded.good_until
    )
    SELECT notification_id FROM stored ORDER BY notification_id
"""
"""Events, and the rows that they lead to, in one statement. Ids in the order of the arrays.

The primary key of events refuses a version that is taken.
"""

TOUCH_COMMANDS: Final[LiteralString] = "UPDATE ledger.commands SET at = at WHERE command_id = ANY(%s)"
"""A repeat is answered with what another transaction did, which perhaps no standby has yet. A transaction
that writes nothing waits for nobody: this one writes, so its commit waits for that one, too."""

PUT_COMMANDS: Final[LiteralString] = """
    INSERT INTO ledger.commands AS c (at, command_id, attempt, originator_id, request)
    SELECT %s::timestamptz, * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bytea[])
    ON CONFLICT (command_id) DO UPDATE
    SET attempt = excluded.attempt, originator_id = excluded.originator_id,
        request = excluded.request, at = excluded.at
"""
"""A conflict is a command id of more than a day ago: it starts anew."""


def columns(
    registry: EventRegistry, recorded: Sequence[Recorded], changed: Mapping[UUID, Aggregate]
) -> Sequence[Array]:
    """The parameters of STORE: `recorded`, and the states that they led to.

    changed: the state of each aggregate after its last event of `recorded`.
    """
    aggregates = list(changed.values())
    ids = arrays.uuids(a.id for a in aggregates)
    secrets = [(a, row) for a in aggregates for row in a.secret_rows()]
    return (
        arrays.uuids(r.originator_id for r in recorded),
        arrays.bigints(r.originator_version for r in recorded),
        arrays.texts(r.event.topic for r in recorded),
        arrays.instants(r.at for r in recorded),
        arrays.uuids(r.command_id for r in recorded),
        arrays.byteas(registry.encode(r.event) for r in recorded),
        ids,
        arrays.bigints(a.version for a in aggregates),
        arrays.instants(a.last_used_at for a in aggregates),
        arrays.bigints(a.uses for a in aggregates),
        ids,
        arrays.texts(name_of(a) for a in aggregates),
        arrays.byteas(encode_state(a) for a in aggregates),
        arrays.byteas(row.digest for _, row in secrets),
        arrays.uuids(a.id for a, _ in secrets),
        arrays.uuids(a.owner_id for a, _ in secrets),
        arrays.instants(row.good_until for _, row in secrets),
        arrays.booleans(row.is_void for _, row in secrets),
    )


def positioned(
    aggregate_id: UUID, after: int, events: Iterable[Any], *, at: datetime, command_id: UUID
) -> list[Recorded]:
    """New events at the end of a stream whose last version is `after`."""
    return [
        Recorded(aggregate_id, version, at, command_id, event)
        for version, event in enumerate(events, start=after + 1)
    ]
