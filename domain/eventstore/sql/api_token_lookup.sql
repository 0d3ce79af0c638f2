-- Who calls the service.

-- name: find
-- The API tokens of presented secrets, good or not, and how the ledger stood in this statement.
-- Returns: one row for each digest of an API token; of a session, the state of the API token that
--   signed in; last the notification id of the newest event and ledger time. Raises SQLSTATE SL001
--   where the given clock is away from that of the database.
-- Order: none.
-- Locks: none.
-- Index: secrets_pkey, aggregates_pkey, once more for a session; stream_heads_pkey;
--   api_tokens_pkey; events_notification_id, backwards, one entry.
SELECT s.digest, a.state, h.version, h.last_used_at, h.uses,
    (
        SELECT first.state FROM ledger.api_tokens session
        JOIN ledger.aggregates first ON first.originator_id = session.session_of
        WHERE session.originator_id = s.originator_id
    ),
    (SELECT max(notification_id) FROM ledger.events), (SELECT ledger.ledger_time(%s))
FROM ledger.secrets s
JOIN ledger.aggregates a ON a.originator_id = s.originator_id AND a.kind = 'api_token'
JOIN ledger.stream_heads h ON h.originator_id = s.originator_id
WHERE s.digest = ANY(%s);
