-- Who holds a setup link.

-- name: find
-- The SCIM token of an id, and how the ledger stood in this statement.
-- Returns: one row, its first five columns null where there is no such token; last the notification
--   id of the newest event and ledger time. Raises SQLSTATE SL001 where the given clock is away
--   from that of the database.
-- Order: none.
-- Locks: none.
-- Index: aggregates_pkey; stream_heads_pkey, backwards, one entry; events_notification_id,
--   backwards, one entry.
SELECT a.kind, a.state, h.version, h.last_used_at, h.uses,
    (SELECT coalesce(max(notification_id), 0) FROM ledger.events), (SELECT ledger.ledger_time(%s))
FROM (VALUES (%s::uuid)) AS asked (id)
LEFT JOIN ledger.aggregates a ON a.originator_id = asked.id AND a.kind = 'scim_token'
LEFT JOIN LATERAL (
    SELECT version, last_used_at, uses FROM ledger.stream_heads
    WHERE originator_id = a.originator_id ORDER BY chapter DESC LIMIT 1
) h ON true;
