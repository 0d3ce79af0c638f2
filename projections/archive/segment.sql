-- What a segment is made of.
-- Locks: none.

-- name: slice
-- The next events behind one position and up to another.
-- Returns: one row an event.
-- Order: position; all events of the last one, for who owns the table can put two there.
-- Index: events_notification_id.
SELECT notification_id, originator_id, originator_version, topic, at, command_id, state
FROM ledger.events WHERE notification_id > %s AND notification_id <= %s
ORDER BY notification_id FETCH FIRST %s ROWS WITH TIES;
