-- What may have to be told of tokens now: lists of things to do, for a `ViewReader`, which fills in
-- the names of the views. What was told is on none of them, because the views fold the warnings.
-- Locks: none.

-- name: ends
-- Tokens that end soon or have ended.
-- Returns: true, token, its end, since when that is to be told; `limit` rows at most.
-- Order: what has waited longest first.
-- Index: scim_tokens_warning.
SELECT true, id, expires_at, next_warning_at FROM {scim_tokens} WHERE next_warning_at <= %(at)s
ORDER BY next_warning_at LIMIT %(limit)s;

-- name: rotation_ends
-- Rotations whose end is to be warned of. Of one that has ended, its finish tells; of one that ends
-- with its token, the warnings of that.
-- Returns: true, token, when the rotation began and when it ends; `limit` rows at most.
-- Order: what has waited longest first.
-- Index: scim_tokens_rotation_due.
SELECT true, id, rotated_at, rotation_ends_at FROM {scim_tokens}
WHERE rotation_due_at <= %(at)s AND rotation_ends_at > %(at)s
    AND (expires_at IS NULL OR expires_at > rotation_ends_at)
ORDER BY rotation_due_at LIMIT %(limit)s;

-- name: sources
-- Addresses from which a token was used for the first time, and nobody was told.
-- Returns: true, key of the row, whether its token had been used from nowhere else before; `limit`
--   rows at most.
-- Order: what has waited longest first.
-- Index: token_sources_news; token_sources_pkey for the other addresses of a token.
SELECT true, n.key, NOT EXISTS (
    SELECT FROM {token_sources} s
    WHERE s.key >= substring(n.key FOR 16) AND s.key < substring(n.key FOR 16) || '\xff'
        AND (s.first_at, s.key) < (n.first_at, n.key)
)
FROM {token_sources} n WHERE n.told = 0 AND n.is_news ORDER BY n.first_at LIMIT %(limit)s;

-- name: oldest
-- Since when there is something to tell. A moment is ordinary; minutes are not.
-- Returns: true, instant; null where there is nothing.
-- Order: one row.
-- Index: scim_tokens_warning, scim_tokens_rotation_due and token_sources_news, one entry each.
SELECT true, least(
    (SELECT next_warning_at FROM {scim_tokens} WHERE next_warning_at <= %(at)s
        ORDER BY next_warning_at LIMIT 1),
    (SELECT rotation_due_at FROM {scim_tokens} WHERE rotation_due_at <= %(at)s
            AND (expires_at IS NULL OR expires_at > rotation_ends_at)
        ORDER BY rotation_due_at LIMIT 1),
    (SELECT first_at FROM {token_sources} WHERE told = 0 AND is_news ORDER BY first_at LIMIT 1)
);

-- name: expiring
-- How many tokens that are good end within some days, counted up to a limit.
-- Returns: true, days, count.
-- Order: none.
-- Index: scim_tokens_ending.
SELECT true, within.days, (
    SELECT count(*) FROM (
        SELECT FROM {scim_tokens}
        WHERE revoked_at IS NULL AND expires_at > %(at)s
            AND expires_at <= %(at)s + within.days * interval '1 day'
        LIMIT %(limit)s
    ) counted
)
FROM unnest(%(days)s::int[]) AS within (days);

-- name: rotations_ending
-- How many rotations of tokens that are good end within some days, counted up to a limit.
-- Returns: true, days, count.
-- Order: none.
-- Index: scim_tokens_rotation_end.
SELECT true, within.days, (
    SELECT count(*) FROM (
        SELECT FROM {scim_tokens}
        WHERE rotation_ends_at > %(at)s
            AND rotation_ends_at <= %(at)s + within.days * interval '1 day'
            AND (expires_at IS NULL OR expires_at > %(at)s)
        LIMIT %(limit)s
    ) counted
)
FROM unnest(%(days)s::int[]) AS within (days);

-- name: silences
-- A slice of all tokens that are not revoked, the newest first, and of each whether it was not used
-- for so long and nobody was told. As long as it was suspended, nobody could use it.
-- Returns: true, creation, token, the beginning of a silence that is to be told, or null, and when
--   the token was resumed last, if it was; `limit` rows at most.
-- Order: that of the slices.
-- Index: scim_tokens_active; of a silence audit_trail_rare_token, past what else was done with the
--   token since it was resumed.
SELECT true, t.created_at, t.id,
    CASE WHEN coalesce(resumed.at <= %(unused_at)s, true) THEN t.silent_since END, resumed.at
FROM (
    SELECT created_at, id,
        CASE WHEN coalesce(last_used_at, created_at) <= %(unused_at)s
            AND (expires_at IS NULL OR expires_at > %(at)s) AND suspended_at IS NULL
            AND unused_since IS DISTINCT FROM coalesce(last_used_at, created_at)
            THEN coalesce(last_used_at, created_at) END AS silent_since
    FROM {scim_tokens}
    WHERE revoked_at IS NULL AND (created_at, id) < (%(created_at)s, %(id)s)
    ORDER BY created_at DESC, id DESC LIMIT %(limit)s
) t
LEFT JOIN LATERAL (
    SELECT a.at FROM {audit_trail} a
    WHERE t.silent_since IS NOT NULL AND a.token_id = t.id AND a.kind = 'scim_token.resumed'
        AND a.kind <> 'scim_token.used'
    ORDER BY a.position DESC LIMIT 1
) resumed ON true
ORDER BY t.created_at DESC, t.id DESC;
