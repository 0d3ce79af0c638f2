-- What an append reads and writes, and what is read of the same rows outside of one. An append runs
-- inside a transaction that holds the append lock: nobody else changes what it reads before the
-- commit.
-- Order: none, unless a statement says so.
-- Locks: none but those of the rows that it writes, unless a statement says so.

-- name: lock
-- Orders this transaction after every earlier append, of all processes. Its commit is confirmed
-- whatever the session states (`record_uses`).
-- Returns: nothing of use; microseconds since the transaction began, which is how long it waited;
--   on where the commit was not to be confirmed.
-- Order: one row.
-- Locks: the append lock, an advisory one, to the end of the transaction; waits lock_timeout at
--   most. It conflicts with other appends only: VACUUM and index builds go on. Refuses any
--   isolation but READ COMMITTED (0005).
-- Index: none.
SELECT ledger.lock_appends(),
    (extract(epoch FROM clock_timestamp() - transaction_timestamp()) * 1000000)::bigint,
    CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
        THEN set_config('synchronous_commit', 'on', true) END;

-- name: ledger_time
-- After the lock no later event can exist, and nobody has decided by a later instant: the answer is
-- that of this transaction. Without the lock it is an instant that no event is after yet. Raises
-- SQLSTATE SL001 where the given clock is away from that of the database (0004, 0023).
-- Returns: ledger time.
-- Order: one row.
-- Index: events_notification_id, backwards, one entry.
SELECT ledger.ledger_time(%s);

-- name: last_instant
-- When the newest event was appended.
-- Returns: an instant; no row where the ledger is empty.
-- Order: backwards, one entry.
-- Index: events_notification_id.
SELECT at FROM ledger.events ORDER BY notification_id DESC LIMIT 1;

-- name: may_append
-- Whether an append would get its locks; it writes nothing, takes no transaction id, and lets them
-- go at once.
-- Returns: one row of nothing.
-- Order: one row.
-- Locks: the append lock and those of tables that an append writes, as an append does; waits
--   lock_timeout at most.
-- Index: none.
WITH heads AS (UPDATE ledger.stream_heads SET uses = uses WHERE false),
    aggregates AS (UPDATE ledger.aggregates SET kind = kind WHERE false),
    secrets AS (UPDATE ledger.secrets SET good_until = good_until WHERE false),
    commands AS (UPDATE ledger.commands SET at = at WHERE false),
    events AS (INSERT INTO ledger.events (originator_id) SELECT NULL::uuid WHERE false)
SELECT FROM ledger.lock_appends();

-- name: time_and_retired_keys
-- The same, for decisions that may digest a secret.
-- Returns: ledger time; the generations of the pepper's keys that were retired.
-- Order: one row.
-- Index: events_notification_id, backwards, one entry; pepper_generations has a row for each key.
SELECT ledger.ledger_time(%s),
    ARRAY(SELECT generation FROM ledger.pepper_generations WHERE retired_at IS NOT NULL);

-- name: load
-- The state of aggregates. Never replays a stream; of its head it passes the dead versions of the
-- newest chapter only.
-- Returns: one row for each aggregate that exists.
-- Index: aggregates_pkey; stream_heads_pkey, backwards, one entry each.
SELECT a.originator_id, a.kind, a.state, h.version, h.last_used_at, h.uses
FROM ledger.aggregates a CROSS JOIN LATERAL (
    SELECT version, last_used_at, uses FROM ledger.stream_heads
    WHERE originator_id = a.originator_id ORDER BY chapter DESC LIMIT 1
) h
WHERE a.originator_id = ANY(%s);

-- name: list_policies
-- Every policy, the general one and those of teams; a read, outside of any append.
-- Returns: one row each.
-- Index: aggregates_kind, which holds what is no SCIM token; stream_heads_pkey.
SELECT a.originator_id, a.kind, a.state, h.version, h.last_used_at, h.uses
FROM ledger.aggregates a JOIN ledger.stream_heads h USING (originator_id)
WHERE a.kind = 'policy';

-- name: held
-- Whose secret this is, good or not; a read, outside of any append. API tokens have no team.
-- Returns: digest, token, team; at most one row a digest.
-- Index: secrets_pkey.
SELECT digest, originator_id, owner_id FROM ledger.secrets
WHERE digest = ANY(%s) AND owner_id IS NOT NULL;

-- name: record_uses
-- The uses of one batch, decided and recorded. A transaction of its own, run by libpq itself
-- (`prepared_statement.py`). Every session of ours states that its commits are confirmed; a pooler
-- that was set to another mode, and hands prepared statements on, gives it one that states another
-- thing. The commit of what is recorded waits for disk and standby all the same: asked once, with
-- the first row, and in no column of its own, which would cost a fiftieth of a use.
-- Returns: one row for each digest that is stored; ids as text, ready for a header; last, for how
--   many microseconds it waited for the lock, null where it did not wait (0013).
-- Order: none. `ordinal` is the place in the arrays, from 1.
-- Locks: the append lock, which it takes itself; rows of ledger.stream_heads.
-- Index: secrets_pkey, stream_heads_pkey, events_notification_id.
SELECT ordinal, token_id::text, team_id::text, is_good, used_at, is_void,
    (SELECT nullif(current_setting('scim_ledger.lock_wait_us', true), '')::bigint
        WHERE current_setting('synchronous_commit') NOT IN ('off', 'local')
            OR set_config('synchronous_commit', 'on', true) = 'on')
FROM ledger.record_uses($1, $2, $3, $4, $5);

-- name: known_commands
-- Commands of the last day of ledger time: a repeat has the effect of the first.
-- Returns: one row for each command id that is known.
-- Index: commands_pkey.
SELECT command_id, attempt, originator_id, request FROM ledger.commands
WHERE command_id = ANY(%s) AND at > (SELECT ledger.ledger_time(%s)) - interval '24 hours';

-- name: live_tokens
-- How many tokens of a team authenticate now. Asked only where a policy limits their number.
-- Returns: team, number; a team without one has no row.
-- Index: secrets_good_of_team, what is good of the team's part.
SELECT owner_id, count(DISTINCT originator_id) FROM ledger.secrets
WHERE owner_id = ANY(%s) AND good_until > '-infinity'
    AND good_until > (SELECT ledger.ledger_time(%s))
GROUP BY owner_id;

-- name: began_at
-- When a command was first carried out; a read, outside of any append.
-- Returns: one instant; no row where the command is not known.
-- Index: commands_pkey.
SELECT at FROM ledger.commands WHERE command_id = %s;

-- name: move_secrets
-- The rows of secrets that were digested anew, before STORE writes how they stand. In place: at no
-- instant has a secret two rows, or none.
-- Returns: nothing.
-- Index: secrets_pkey.
UPDATE ledger.secrets s SET digest = m.after, shown_as = m.shown_as
FROM unnest(%s::bytea[], %s::bytea[], %s::text[]) AS m (before, after, shown_as)
WHERE s.digest = m.before;

-- name: store
-- Events, and the rows that they lead to, in one statement. The primary key of events refuses a
-- version that is taken. A head is found by its newest chapter and rewritten by its place (ctid),
-- which is good for this statement under the lock.
-- Returns: the notification ids of the events.
-- Order: that of the arrays.
-- Index: stream_heads_pkey, backwards, one entry each; aggregates_pkey and secrets_pkey for
--   conflicts.
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
        SELECT ctid AS place FROM ledger.stream_heads WHERE originator_id = p.originator_id
        ORDER BY chapter DESC LIMIT 1
    ) found ON true
), moved AS (
    UPDATE ledger.stream_heads h
    SET version = new.version, chapter = new.version >> 6, last_used_at = new.last_used_at,
        uses = new.uses
    FROM heads new WHERE h.ctid = new.place
), begun AS (
    INSERT INTO ledger.stream_heads (originator_id, version, chapter, last_used_at, uses)
    SELECT originator_id, version, version >> 6, last_used_at, uses FROM heads WHERE place IS NULL
), aggregates AS (
    INSERT INTO ledger.aggregates (originator_id, kind, state)
    SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bytea[])
    ON CONFLICT (originator_id) DO UPDATE SET state = excluded.state
), secrets AS (
    INSERT INTO ledger.secrets (digest, originator_id, owner_id, good_until, networks)
    SELECT digest, originator_id, owner_id,
        CASE WHEN is_void THEN '-infinity' ELSE coalesce(good_until, 'infinity') END,
        networks::inet[]
    FROM unnest(%s::bytea[], %s::uuid[], %s::uuid[], %s::timestamptz[], %s::bool[], %s::text[])
        AS p (digest, originator_id, owner_id, good_until, is_void, networks)
    ON CONFLICT (digest) DO UPDATE
    SET good_until = excluded.good_until, networks = excluded.networks
)
SELECT notification_id FROM stored ORDER BY notification_id;

-- name: touch_commands
-- A repeat is answered with what another transaction did, which perhaps no standby has yet. A
-- transaction that writes nothing waits for no standby: this one writes, so its commit waits for
-- that one, too.
-- Returns: nothing.
-- Index: commands_pkey.
UPDATE ledger.commands SET at = at WHERE command_id = ANY(%s);

-- name: put_commands
-- Remembers commands for a day. A conflict is a command id of more than a day ago: it starts anew.
-- Returns: nothing.
-- Index: commands_pkey for conflicts.
INSERT INTO ledger.commands AS c (at, command_id, attempt, originator_id, request)
SELECT %s::timestamptz, * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bytea[])
ON CONFLICT (command_id) DO UPDATE
SET attempt = excluded.attempt, originator_id = excluded.originator_id,
    request = excluded.request, at = excluded.at;
