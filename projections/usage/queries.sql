-- Questions to the view `usage`, for a `ViewReader`, which fills in `{table}` and waits until the
-- view has reached the ledger's head.

-- name: steps
-- How often a token was used in each hour or day. The secrets of the token are walked one after the
-- other, because a range of hours is one range of the key for each.
-- Returns: true; the number of the step since the epoch of the view, uses, refusals, and how many
--   sources.
-- Order: none.
-- Locks: none.
-- Index: the primary key: an entry for each secret, and a range, its parts told apart as
--   `usage.key_of` put them together.
WITH RECURSIVE secrets AS (
    (
        SELECT substring(key FOR 24) AS prefix FROM {table}
        WHERE key > %(token)s AND key < %(token)s::bytea || '\xff' ORDER BY key LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT substring(key FOR 24) FROM {table}
        WHERE key > prefix || '\xff' AND key < %(token)s::bytea || '\xff' ORDER BY key LIMIT 1
    ) FROM secrets WHERE prefix IS NOT NULL
)
SELECT true,
    ('x' || encode(substring(u.key FROM 25 FOR 4), 'hex'))::bit(32)::int / %(hours)s AS step,
    sum(u.uses)::bigint, sum(u.refusals)::bigint,
    count(DISTINCT nullif(substring(u.key FROM 29), ''))
FROM secrets CROSS JOIN LATERAL (
    SELECT * FROM {table}
    WHERE key >= prefix || %(start)s::bytea AND key < prefix || %(end)s::bytea
    OFFSET 0
) u
GROUP BY step;

-- name: days
-- How often each of some tokens was used on each day. The secrets of each are walked as above.
-- Returns: true; the token's id as bytes, the number of the day since the epoch of the view, and
--   its uses. Days without any use are left out.
-- Order: none.
-- Locks: none.
-- Index: the primary key: for each token an entry for each secret, and a range.
SELECT true, asked.token, used.day, used.uses
FROM unnest(%(tokens)s::bytea[]) AS asked (token)
CROSS JOIN LATERAL (
    WITH RECURSIVE secrets AS (
        (
            SELECT substring(key FOR 24) AS prefix FROM {table}
            WHERE key > asked.token AND key < asked.token || '\xff' ORDER BY key LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT substring(key FOR 24) FROM {table}
            WHERE key > prefix || '\xff' AND key < asked.token || '\xff' ORDER BY key LIMIT 1
        ) FROM secrets WHERE prefix IS NOT NULL
    )
    SELECT ('x' || encode(substring(u.key FROM 25 FOR 4), 'hex'))::bit(32)::int / 24 AS day,
        sum(u.uses)::bigint AS uses
    FROM secrets CROSS JOIN LATERAL (
        SELECT * FROM {table}
        WHERE key >= prefix || %(start)s::bytea AND key < prefix || %(end)s::bytea AND uses > 0
        OFFSET 0
    ) u
    GROUP BY day
) used;
