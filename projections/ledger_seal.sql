-- What a seal is made of, a slice at a time, each in one snapshot.
-- Locks: none.

-- name: newest
-- Returns: the position of the last event, 0 where there is none.
-- Order: one row.
-- Index: events_notification_id.
SELECT coalesce(max(notification_id), 0) FROM ledger.events;

-- name: slice
-- The next events behind one position and up to another, each as SHA-256 of its bytes. They are,
-- one after the other: the position (8 bytes, most significant first, as all numbers here), the
-- stream's id (16), the version (8), the instant in microseconds since 2000-01-01T00:00:00Z (8),
-- the command's id (16), the length of the topic (4), the topic in UTF-8, the stored state.
-- Returns: how many they are, the last position, their hashes one behind the other; NULL for both
--   where there is none. All events of the last position: who owns the table can put two there,
--   and the next slice begins behind it.
-- Order: one row.
-- Index: events_notification_id.
SELECT count(*), max(notification_id), string_agg(hash, ''::bytea ORDER BY notification_id)
FROM (
    SELECT notification_id, sha256(
        int8send(notification_id) || uuid_send(originator_id) || int8send(originator_version)
        || timestamptz_send(at) || uuid_send(command_id)
        || int4send(octet_length(convert_to(topic, 'UTF8'))) || convert_to(topic, 'UTF8') || state
    ) AS hash
    FROM ledger.events WHERE notification_id > %s AND notification_id <= %s
    ORDER BY notification_id FETCH FIRST %s ROWS WITH TIES
) slice;
