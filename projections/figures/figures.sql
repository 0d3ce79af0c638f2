-- What the store holds and what it waits for, for those who watch the service. Each costs a bounded
-- time, however large the ledger is.
-- Locks: none but ACCESS SHARE, for moments.

-- name: tokens
-- How many tokens are in which state, of the `limit` newest that are not revoked, and of as many
-- that are: the first of revoked, expired and suspended that is true. For a `ViewReader`.
-- Returns: true, state, count; four rows.
-- Order: none.
-- Index: scim_tokens_active, scim_tokens_revoked.
WITH living AS (
    SELECT
        count(*) FILTER (WHERE is_over) AS expired,
        count(*) FILTER (WHERE NOT is_over AND suspended_at IS NOT NULL) AS suspended,
        count(*) FILTER (WHERE NOT is_over AND suspended_at IS NULL) AS active
    FROM (
        SELECT suspended_at, coalesce(expires_at <= %(at)s, false) AS is_over
        FROM {scim_tokens} WHERE revoked_at IS NULL
        ORDER BY created_at DESC, id DESC LIMIT %(limit)s
    ) newest
), revoked AS (
    SELECT count(*) AS revoked FROM (
        SELECT FROM {scim_tokens} WHERE revoked_at IS NOT NULL
        ORDER BY created_at DESC, id DESC LIMIT %(limit)s
    ) newest
)
SELECT true, counted.* FROM living, revoked, LATERAL (
    VALUES ('active', active), ('suspended', suspended), ('expired', expired), ('revoked', revoked)
) counted;

-- name: sizes
-- Bytes on disk, indexes included, by group of tables.
-- Returns: group, bytes; a group without tables has no row.
-- Order: none.
-- Index: none; the catalogue has some dozens of tables.
SELECT CASE
    WHEN n.nspname = 'views' THEN 'views'
    WHEN c.relname ~ '^events' THEN 'events'
    WHEN c.relname IN ('aggregates', 'api_tokens', 'stream_heads', 'secrets') THEN 'state'
    ELSE 'other' END, coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('ledger', 'views') AND c.relkind = 'r'
GROUP BY 1;

-- name: now
-- How old the newest event is, how many transactions wait for the append lock, and since when.
-- Returns: seconds or null, count, seconds.
-- Order: one row.
-- Index: events_notification_id, backwards, one entry.
SELECT
    (SELECT extract(epoch FROM clock_timestamp() - at)::float8 FROM ledger.events
        ORDER BY notification_id DESC LIMIT 1),
    count(l.pid),
    coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)), 0)::float8
FROM pg_locks l
WHERE l.locktype = 'advisory' AND NOT l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::bigint << 32 | l.objid::bigint) = 7239075814;
