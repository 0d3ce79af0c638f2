-- What a repair reads and writes: by the owner, in one transaction that holds the append lock,
-- while no service runs.
-- Order: none, unless a statement says so.
-- Locks: none but those of the rows that it writes.

-- name: take_time
-- A repair takes as long as the ledger is large; only for its locks it waits ten seconds at most.
-- Returns: nothing of use.
-- Index: none.
SELECT set_config('statement_timeout', '0', true),
    set_config('idle_in_transaction_session_timeout', '0', true),
    set_config('lock_timeout', '10s', true);

-- name: count_services
-- Returns: how many other connections to this database are of a process of ours.
-- Index: none.
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND application_name LIKE 'scim-ledger%';

-- name: stretch
-- The events that are further ahead of the database's clock than a process may be.
-- Returns: one row: first and last notification id and the latest instant, all NULL where there is
--   none; the database's clock; the instant to go back to, that of the last event before the
--   stretch.
-- Index: none; reads every event.
WITH now AS (SELECT date_trunc('milliseconds', clock_timestamp()) AS at),
jumped AS (
    SELECT min(notification_id) AS first, max(notification_id) AS last, max(e.at) AS until
    FROM ledger.events e, now WHERE e.at > now.at + %s::interval
)
SELECT first, last, until, now.at,
    coalesce((SELECT max(at) FROM ledger.events WHERE notification_id < first), now.at)
FROM jumped, now;

-- name: record
-- Who repairs what, and why.
-- Returns: the id of the repair.
-- Index: none.
INSERT INTO ledger.repairs (kind, by, reason)
VALUES (%s, %s || ' as ' || session_user, %s) RETURNING id;

-- name: events
-- The events of the stretch, through a cursor of the server.
-- Returns: one row an event.
-- Order: notification id.
-- Index: events_notification_id.
SELECT notification_id, topic, at, state FROM ledger.events
WHERE notification_id >= %s ORDER BY notification_id;

-- name: keep
-- Keeps events as they are before they are changed.
-- Returns: nothing.
-- Index: events_notification_id.
INSERT INTO ledger.repaired_events (repair_id, notification_id, topic, at, state)
SELECT %s::bigint, e.notification_id, e.topic, e.at, e.state
FROM ledger.events e JOIN unnest(%s::bigint[]) AS r (id) ON e.notification_id = r.id;

-- name: set_back
-- The only statement that changes an event.
-- Returns: nothing.
-- Index: events_notification_id.
UPDATE ledger.events e SET topic = r.topic, at = r.at, state = r.state
FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::bytea[]) AS r (id, topic, at, state)
WHERE e.notification_id = r.id;

-- name: touched_streams
-- Returns: the id of each stream with an event from a position on.
-- Index: events_notification_id.
SELECT DISTINCT originator_id FROM ledger.events WHERE notification_id >= %s;

-- name: replay
-- Whole streams, through a cursor of the server.
-- Returns: one row an event.
-- Order: stream, version.
-- Index: events_pkey.
SELECT originator_id, originator_version, at, command_id, topic, state, notification_id
FROM ledger.events WHERE originator_id = ANY(%s) ORDER BY originator_id, originator_version;

-- name: uses
-- How often streams were used, as their heads say: of those of which events are in the archive
-- alone.
-- Returns: stream and uses; no row where there is no head.
-- Index: stream_heads_pkey.
SELECT originator_id, max(uses) FROM ledger.stream_heads
WHERE originator_id = ANY(%s) GROUP BY originator_id;

-- name: forget_derived
-- What is kept beside the events of some streams, before it is stored anew. A secret that no event
-- tells of stays.
-- Returns: nothing.
-- Index: stream_heads_pkey, api_tokens_pkey, secrets_pkey, aggregates_pkey.
WITH heads AS (
    DELETE FROM ledger.stream_heads WHERE originator_id = ANY(%(ids)s)
), listed AS (
    DELETE FROM ledger.api_tokens WHERE originator_id = ANY(%(ids)s)
), secrets AS (
    DELETE FROM ledger.secrets WHERE digest = ANY(%(digests)s)
)
DELETE FROM ledger.aggregates WHERE originator_id = ANY(%(ids)s);

-- name: name_secrets
-- What secrets that were digested anew are called, once their rows are there.
-- Returns: nothing.
-- Index: secrets_pkey.
UPDATE ledger.secrets s SET shown_as = m.shown_as
FROM unnest(%s::bytea[], %s::text[]) AS m (digest, shown_as) WHERE s.digest = m.digest;

-- name: forget_commands
-- The commands of the stretch that recorded certain events: what they found may come true later.
-- Returns: nothing.
-- Index: events_notification_id; commands_pkey.
DELETE FROM ledger.commands c USING ledger.events e
WHERE e.notification_id >= %s AND e.topic = ANY(%s) AND c.command_id = e.command_id;

-- name: set_commands_back
-- Commands are remembered for a day from now.
-- Returns: nothing.
-- Index: commands_at.
UPDATE ledger.commands SET at = %(now)s WHERE at > %(now)s;

-- name: forget_peppers
-- Returns: nothing; the count of rows is the number of generations.
-- Index: none; reads every row, one a generation.
DELETE FROM ledger.pepper_generations;
