-- What the archive is made of, and what leaves the ledger once it stands there.
-- Locks: none, unless a statement says so.

-- name: extensions
-- How the archive was extended.
-- Returns: one row a stretch: topic and state of its event.
-- Order: the oldest stretch first.
-- Index: events_pkey.
SELECT topic, state FROM ledger.events WHERE originator_id = %s ORDER BY originator_version;

-- name: now
-- Returns: the database's clock, or the instant of the newest event where that is earlier; the
--   position of that event. No row where there is no event.
-- Order: backwards, one entry.
-- Index: events_notification_id.
SELECT least(clock_timestamp(), at), notification_id
FROM ledger.events ORDER BY notification_id DESC LIMIT 1;

-- name: last_up_to
-- Returns: position and instant of the last event up to a position and behind another; no row where
--   there is none.
-- Order: backwards, one entry.
-- Index: events_notification_id.
SELECT notification_id, at FROM ledger.events
WHERE notification_id <= %s AND notification_id > %s ORDER BY notification_id DESC LIMIT 1;

-- name: first_behind
-- Returns: the instant of the first event behind a position; no row where there is none.
-- Order: forwards, one entry.
-- Index: events_notification_id.
SELECT at FROM ledger.events WHERE notification_id > %s ORDER BY notification_id LIMIT 1;

-- name: removable
-- The uses and refusals up to a position that nothing of the present rests on. What it rests on
-- are, of each token, the first by each of its secrets from each address, and the last by each
-- secret: by these it is told since when a secret is in use or silent, and which address is new.
-- Returns: one row an event: its position, and how many uses it stands for.
-- Order: position.
-- Index: events_notification_id up to that position: what earlier stretches have left there, and
--   the last one.
SELECT position, uses FROM (
    SELECT notification_id AS position,
        CASE WHEN topic LIKE '%%.used.%%' THEN coalesce((said ->> 'count')::bigint, 1) ELSE 0 END
            AS uses,
        row_number() OVER (
            PARTITION BY originator_id, topic, said ->> 'secret',
                said -> 'presentation' ->> 'source'
            ORDER BY originator_version
        ) AS from_first,
        row_number() OVER (
            PARTITION BY originator_id, topic, said ->> 'secret' ORDER BY originator_version DESC
        ) AS to_last
    FROM ledger.events
    CROSS JOIN LATERAL (SELECT convert_from(state, 'UTF8')::jsonb OFFSET 0) AS decoded (said)
    WHERE notification_id <= %(until)s AND topic = ANY(%(leaving)s)
) ranked
WHERE from_first > 1 AND to_last > 1 ORDER BY position;

-- name: remove
-- By the owner alone: the app role may add events, and neither change nor delete one.
-- Returns: nothing; the count of rows is that of the events.
-- Order: none.
-- Locks: the rows.
-- Index: events_notification_id.
DELETE FROM ledger.events WHERE notification_id = ANY(%s::bigint[]);

-- name: take_turn
-- One command at a time extends the archive.
-- Returns: whether this one may.
-- Order: one row.
-- Locks: an advisory one, to the end of the session.
-- Index: none.
SELECT pg_try_advisory_lock(7239075822);

-- name: count
-- Returns: how many events there are between two positions.
-- Order: one row.
-- Index: events_notification_id, the stretch.
SELECT count(*) FROM ledger.events WHERE notification_id > %s AND notification_id <= %s;

-- name: may_remove
-- Returns: whether this role may delete events, which takes the owner.
-- Order: one row.
-- Index: none.
SELECT has_table_privilege('ledger.events', 'DELETE');

-- name: missing
-- Versions are dense where nothing is missing, and the newest event of a stream never leaves.
-- Returns: how many events are not there, of all streams.
-- Order: one row.
-- Index: events_pkey, all of it.
SELECT coalesce(sum(newest - there), 0)::bigint FROM (
    SELECT max(originator_version) AS newest, count(*) AS there
    FROM ledger.events GROUP BY originator_id
) streams;
