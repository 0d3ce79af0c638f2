-- Questions to the view `usage`, for a `ViewReader`, which fills in `{table}` and waits until the
-- view has reached the ledger's head.

-- name: steps
-- How often a token was used in each hour or day.
-- Returns: true; the number of the step since the epoch of the view, uses, refusals, and how many
--   sources.
-- Order: none.
-- Locks: none.
-- Index: the primary key: a range of it, its parts told apart as `usage.key_of` put them together.
SELECT true, ('x' || encode(substring(key FROM 17 FOR 4), 'hex'))::bit(32)::int / %(hours)s AS step,
    sum(uses)::bigint, sum(refusals)::bigint, count(DISTINCT nullif(substring(key FROM 21), ''))
FROM {table} WHERE key >= %(start)s AND key < %(end)s GROUP BY step;
