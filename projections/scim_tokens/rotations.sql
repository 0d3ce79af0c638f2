-- Rotations that are under way, for a `ViewReader` of `scim_tokens` and `usage`, which names them.

-- name: rotations
-- How the two secrets of each rotation are used. Uses before it that do not say with which secret
-- are the older one's.
-- The hour is the finest that a use in the middle is found by.
-- Returns: true; token, creation, its last change, whether it is suspended; when the rotation
--   started and when it ends, the id of its newer secret, the first and last use of that one, and
--   the last use of the older one; the end of the last hour in which that one was refused, null
--   where it was not since the rotation and its last use; the first use of the newer one in an hour
--   that began when the older one, and the token, had been left alone for `silent_for`, null where
--   that is null; the last day of which the use of the older one was told. One row a token.
-- Order: none.
-- Locks: none.
-- Index: that of `{rotating}`, a select of rows of scim_tokens; the primary key of `usage`, one
--   entry from either end of each secret, and one in the middle, past hours of refusals alone, and
--   the hour that it is in; of the older one the hours since its last use, of 30 days at most.
SELECT true, t.id, t.created_at, t.updated_at, t.suspended_at IS NOT NULL, t.rotated_at,
    least(t.rotation_ends_at, t.expires_at), newer.id,
    newer_first.at, newer_last.at, silent.since, refused.until, newer_again.at,
    t.old_secret_day
FROM ({rotating}) t
CROSS JOIN LATERAL (SELECT t.secrets::jsonb -> -1 ->> 'id' AS id) newer
CROSS JOIN LATERAL (
    SELECT k ->> 'id' AS id FROM jsonb_array_elements(t.secrets::jsonb) k
    WHERE k ? 'ended_at' ORDER BY k ->> 'ended_at' DESC LIMIT 1
) older
LEFT JOIN LATERAL (
    SELECT min(u.first_at) AS at FROM (
        SELECT substring(key FOR 28) AS hour FROM {usage}
        WHERE key >= uuid_send(t.id) || convert_to(newer.id, 'UTF8')
            AND key < uuid_send(t.id) || convert_to(newer.id, 'UTF8') || '\xff' AND uses > 0
        ORDER BY key LIMIT 1
    ) f JOIN {usage} u ON u.key >= f.hour AND u.key < f.hour || '\xff'
) newer_first ON true
LEFT JOIN LATERAL (
    SELECT max(u.last_at) AS at FROM (
        SELECT substring(key FOR 28) AS hour FROM {usage}
        WHERE key >= uuid_send(t.id) || convert_to(newer.id, 'UTF8')
            AND key < uuid_send(t.id) || convert_to(newer.id, 'UTF8') || '\xff' AND uses > 0
        ORDER BY key DESC LIMIT 1
    ) l JOIN {usage} u ON u.key >= l.hour AND u.key < l.hour || '\xff'
) newer_last ON true
LEFT JOIN LATERAL (
    SELECT max(u.last_at) AS at FROM (
        SELECT substring(key FOR 28) AS hour FROM {usage}
        WHERE key >= uuid_send(t.id) || convert_to(older.id, 'UTF8')
            AND key < uuid_send(t.id) || convert_to(older.id, 'UTF8') || '\xff' AND uses > 0
        ORDER BY key DESC LIMIT 1
    ) l JOIN {usage} u ON u.key >= l.hour AND u.key < l.hour || '\xff'
) older_last ON true
LEFT JOIN LATERAL (
    SELECT max(u.last_at) AS at FROM (
        SELECT substring(key FOR 28) AS hour FROM {usage}
        WHERE key >= uuid_send(t.id) || '--------'::bytea
            AND key < uuid_send(t.id) || '--------'::bytea || '\xff' AND uses > 0
        ORDER BY key DESC LIMIT 1
    ) l JOIN {usage} u ON u.key >= l.hour AND u.key < l.hour || '\xff'
) untold_last ON true
CROSS JOIN LATERAL (
    SELECT greatest(
        older_last.at, CASE WHEN untold_last.at <= t.rotated_at THEN untold_last.at END
    ) AS since
) silent
LEFT JOIN LATERAL (
    SELECT to_timestamp(
        (('x' || encode(substring(key FROM 25 FOR 4), 'hex'))::bit(32)::int + 1) * 3600.0
    ) AS until
    FROM {usage}
    WHERE key >= uuid_send(t.id) || convert_to(older.id, 'UTF8')
            || int4send(floor(extract(epoch FROM greatest(t.rotated_at, silent.since)) / 3600)::int)
        AND key < uuid_send(t.id) || convert_to(older.id, 'UTF8') || '\xff' AND refusals > 0
    ORDER BY key DESC LIMIT 1
) refused ON true
LEFT JOIN LATERAL (
    SELECT min(u.first_at) AS at FROM (
        SELECT substring(key FOR 28) AS hour FROM {usage}
        WHERE key >= uuid_send(t.id) || convert_to(newer.id, 'UTF8') || int4send(ceil(
                extract(epoch FROM
                    greatest(t.updated_at, silent.since, refused.until) + %(silent_for)s::interval
                ) / 3600
            )::int)
            AND key < uuid_send(t.id) || convert_to(newer.id, 'UTF8') || '\xff' AND uses > 0
        ORDER BY key LIMIT 1
    ) a JOIN {usage} u ON u.key >= a.hour AND u.key < a.hour || '\xff'
) newer_again ON true;

-- name: by_id
-- Part of `rotations`: those of some tokens.
-- Returns: rows of scim_tokens.
-- Order: none.
-- Locks: none.
-- Index: scim_tokens_pkey.
SELECT * FROM {scim_tokens} WHERE id = ANY(%(ids)s) AND rotation_ends_at IS NOT NULL;

-- name: slice
-- Part of `rotations`: the next ones of a walk through all of them.
-- Returns: rows of scim_tokens, `limit` at most.
-- Order: the newest token first.
-- Locks: none.
-- Index: scim_tokens_rotating.
SELECT * FROM {scim_tokens} WHERE rotation_ends_at IS NOT NULL
    AND (created_at, id) < (%(created_at)s, %(id)s)
ORDER BY created_at DESC, id DESC LIMIT %(limit)s;
