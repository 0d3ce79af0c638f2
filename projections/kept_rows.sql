-- What the ledger check reads of rows that are kept beside the streams, a slice at a time, each in
-- one snapshot. Whole scans and sorts are off.
-- Locks: none.

-- name: orphans
-- The next streams of a table, and which of them no event tells of.
-- Returns: stream, and whether it has no first event.
-- Order: stream.
-- Index: that of the table on originator_id; events_pkey, one entry each.
SELECT kept.originator_id, NOT EXISTS (
    SELECT FROM ledger.events e
    WHERE e.originator_id = kept.originator_id AND e.originator_version = 1
)
FROM (
    SELECT originator_id FROM {kept} WHERE originator_id > %s ORDER BY originator_id LIMIT %s
) AS kept;

-- name: listed
-- The next API tokens by their states, and whether the row that a list goes by says the same.
-- Returns: stream, and whether it does; false also where there is none.
-- Order: stream.
-- Index: aggregates_kind; api_tokens_pkey, one entry each.
SELECT a.originator_id, to_jsonb(listed) IS NOT DISTINCT FROM to_jsonb(said)
FROM (
    SELECT originator_id, state FROM ledger.aggregates
    WHERE kind = 'api_token' AND originator_id > %s ORDER BY originator_id LIMIT %s
) AS a
CROSS JOIN LATERAL ledger.api_token_row(a.originator_id, a.state) AS said
LEFT JOIN ledger.api_tokens listed ON listed.originator_id = a.originator_id
ORDER BY a.originator_id;

-- name: live_positions
-- Returns: name and version of each live version, whether it is beyond the ledger, whether its
--   table is missing.
-- Order: name, version.
-- Index: projection_positions_live.
SELECT p.name, p.version,
    p.position > coalesce((SELECT max(notification_id) FROM ledger.events), 0),
    to_regclass('views.' || p.name || '_v' || p.version) IS NULL
FROM ledger.projection_positions p WHERE p.role = 'live' ORDER BY p.name, p.version;
