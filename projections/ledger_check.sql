-- What the ledger check reads, a slice at a time, each in one snapshot. Whole scans and sorts are
-- off. A slice has all events of its last place: who owns the table can put two there, and the next
-- begins behind it.
-- Locks: none.

-- name: slice
-- The next events, stream by stream.
-- Returns: one row an event.
-- Order: stream, version.
-- Index: events_pkey.
SELECT originator_id, originator_version, notification_id, topic, at, command_id, state
FROM ledger.events WHERE (originator_id, originator_version) > (%s, %s)
ORDER BY originator_id, originator_version FETCH FIRST %s ROWS WITH TIES;

-- name: stored
-- Head and state of streams, as they are stored beside their events.
-- Returns: one row a stream, NULL where something is missing; two where a stream has two heads.
-- Order: none.
-- Index: stream_heads_pkey, aggregates_pkey.
SELECT i.id, h.version, h.last_used_at, h.uses, a.kind, a.state
FROM unnest(%s::uuid[]) AS i (id)
LEFT JOIN ledger.stream_heads h ON h.originator_id = i.id
LEFT JOIN ledger.aggregates a ON a.originator_id = i.id;

-- name: secrets
-- Returns: one row a secret of these streams; its end, NULL where there is none, whether it is
--   void, what it is called, NULL where its digest says so, and from where it is good, NULL where
--   that is from anywhere.
-- Order: none.
-- Index: secrets_originator_id.
SELECT originator_id, digest, owner_id, CASE WHEN isfinite(good_until) THEN good_until END,
    good_until = '-infinity', shown_as,
    array_to_string(networks::text[], ',')
FROM ledger.secrets WHERE originator_id = ANY(%s);

-- name: instants
-- The next events in commit order: each stands alone at its position, and ledger time never goes
-- back.
-- Returns: their count, last notification id and latest instant, the first id that two have, and
--   the first that is too early.
-- Order: one row.
-- Index: events_notification_id.
SELECT count(*), max(notification_id), max(at),
    min(notification_id) FILTER (WHERE notification_id = behind),
    min(notification_id) FILTER (WHERE at < before)
FROM (
    SELECT notification_id, at, lag(notification_id) OVER (ORDER BY notification_id) AS behind,
        coalesce(lag(at) OVER (ORDER BY notification_id), %s) AS before
    FROM (
        SELECT notification_id, at FROM ledger.events WHERE notification_id > %s
        ORDER BY notification_id FETCH FIRST %s ROWS WITH TIES
    ) slice
) e;
