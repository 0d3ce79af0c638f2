-- The ledger as projections read it, in commit order. An event that is committed is never before
-- one that was read already, because every append holds the append lock.
-- Order: notification id.
-- Locks: none.
-- Index: events_notification_id, unless a statement says more.

-- name: read
-- The next entries.
-- Returns: one row an event.
SELECT notification_id, originator_id, originator_version, topic, at, command_id, state
FROM ledger.events WHERE notification_id > %s AND notification_id <= %s
ORDER BY notification_id LIMIT %s;

-- name: read_for
-- What one view needs of a stretch, and what nobody knows. Of topics that it does not decode,
-- command id and state stay in the database.
-- Returns: one row an event.
SELECT notification_id, originator_id, originator_version, topic, at,
    CASE WHEN topic = ANY(%(decodes)s) THEN command_id
        ELSE '00000000-0000-0000-0000-000000000000' END,
    CASE WHEN topic = ANY(%(decodes)s) THEN state ELSE '' END
FROM ledger.events
WHERE notification_id > %(after)s AND notification_id <= %(until)s
    AND (topic = ANY(%(each)s) OR topic <> ALL(%(known)s))
ORDER BY 1;

-- name: read_for_last_only
-- The same, and of each stream that begins in the stretch its last entry of `last_only` at all, up
-- to `end`.
-- Returns: one row an event.
-- Index: events_notification_id; for the last entries events_pkey, from the end of each stream.
WITH mine AS MATERIALIZED (
    SELECT notification_id, originator_id, originator_version, topic, at,
        CASE WHEN topic = ANY(%(decodes)s) THEN command_id
            ELSE '00000000-0000-0000-0000-000000000000' END,
        CASE WHEN topic = ANY(%(decodes)s) THEN state ELSE '' END
    FROM ledger.events
    WHERE notification_id > %(after)s AND notification_id <= %(until)s
        AND (topic = ANY(%(each)s) OR topic <> ALL(%(known)s))
)
SELECT * FROM mine
UNION ALL
SELECT last.* FROM mine CROSS JOIN LATERAL (
    SELECT notification_id, originator_id, originator_version, topic, at,
        '00000000-0000-0000-0000-000000000000'::uuid, ''::bytea
    FROM ledger.events e
    WHERE e.originator_id = mine.originator_id AND e.topic = ANY(%(last_only)s)
        AND e.notification_id <= %(end)s
    ORDER BY e.originator_version DESC LIMIT 1
) last
WHERE mine.originator_version = 1
ORDER BY 1;

-- name: head
-- Where the ledger ends.
-- Returns: the notification id of the newest event, 0 where there is none.
-- Index: events_notification_id, backwards, one entry.
SELECT coalesce(max(notification_id), 0) FROM ledger.events;
