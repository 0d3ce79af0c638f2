-- What the views forget with the events that leave the ledger.

-- name: hold_versions
-- No version of a view is begun meanwhile: it would be of events that leave.
-- Returns: nothing of use.
-- Order: one row.
-- Locks: an advisory one, that of `lock_versions` (positions.sql), to the end of the session or
--   `let_versions_go`.
-- Index: none.
SELECT pg_advisory_lock(7239075816);

-- name: let_versions_go
-- Returns: whether it was held.
-- Order: one row.
-- Locks: none.
-- Index: none.
SELECT pg_advisory_unlock(7239075816);

-- name: leaving
-- Events by their positions, as projections read them.
-- Returns: one row an event.
-- Order: position.
-- Locks: none.
-- Index: events_notification_id.
SELECT notification_id, originator_id, originator_version, topic, at, command_id, state
FROM ledger.events WHERE notification_id = ANY(%s::bigint[]) ORDER BY notification_id;

-- name: staying
-- Of some streams the uses and refusals up to a position that do not leave. What these streams have
-- behind it, which is most of them, is not looked at.
-- Returns: one row an event.
-- Order: position.
-- Locks: none.
-- Index: events_notification_id up to that position.
WITH old AS MATERIALIZED (
    SELECT notification_id, originator_id, originator_version, topic, at, command_id, state
    FROM ledger.events WHERE notification_id <= %(until)s AND topic = ANY(%(topics)s)
)
SELECT * FROM old
WHERE originator_id = ANY(%(streams)s::uuid[])
    AND notification_id <> ALL(%(leaving)s::bigint[])
ORDER BY notification_id;

-- name: forget
-- Returns: nothing.
-- Order: none.
-- Locks: the rows.
-- Index: the primary key of the view.
DELETE FROM {table} WHERE {key} = ANY(%s);
