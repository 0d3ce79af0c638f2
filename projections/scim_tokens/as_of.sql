-- Tokens as they were at an instant, for a `ViewReader` of `scim_tokens` and `audit_trail`, which
-- fills in the names of the views.

-- name: as_it_was
-- `{newest}` is a select from `scim_tokens`: the tokens that are asked for, in the order of a list.
-- What later events have overwritten is looked up in the trail, and only where the row holds
-- something later. A token is not used after it ended, so between its last use before the instant
-- and the instant there are only refusals of secrets that a rotation had ended, one a minute at
-- most.
-- Returns: true, and what a document is made of; one row a token.
-- Order: the newest first.
-- Locks: none.
-- Index: of the trail those on (at, position) and on a token, one entry each; of the tokens that of
--   `{newest}`.
WITH asked AS MATERIALIZED (
    SELECT %(at)s::timestamptz AS at, coalesce(
        (SELECT position FROM {audit_trail} WHERE at > %(at)s ORDER BY at, position LIMIT 1),
        9223372036854775807
    ) AS end_position
)
SELECT true, t.id, t.team_id, coalesce(named.name, t.name), t.created_by,
    CASE WHEN t.last_used_at > asked.at THEN used.at ELSE t.last_used_at END AS used_at,
    t.created_at,
    greatest(
        t.created_at,
        CASE WHEN t.rotated_at > asked.at THEN rotated.at ELSE t.rotated_at END,
        CASE WHEN t.updated_at <= asked.at THEN t.updated_at ELSE paused.at END,
        ended.at,
        changed.at,
        CASE WHEN t.revoked_at <= asked.at THEN t.revoked_at END
    ),
    CASE WHEN bound.ends_at IS NULL THEN t.expires_at
        ELSE nullif(bound.ends_at, 'infinity')::timestamptz END,
    CASE WHEN t.rotated_at > asked.at THEN rotated.at ELSE t.rotated_at END,
    CASE WHEN t.revoked_at <= asked.at THEN t.revoked_at END,
    CASE WHEN t.updated_at <= asked.at THEN t.suspended_at
        WHEN paused.kind = 'scim_token.suspended' THEN paused.at END
FROM asked CROSS JOIN (
    {newest}
) t
LEFT JOIN LATERAL (
    SELECT a.at FROM {audit_trail} a
    WHERE t.last_used_at > asked.at AND a.token_id = t.id AND a.kind = 'scim_token.used'
        AND a.position < asked.end_position
    ORDER BY a.position DESC LIMIT 1
) used ON true
LEFT JOIN LATERAL (
    SELECT a.at FROM {audit_trail} a
    WHERE t.rotated_at > asked.at AND a.token_id = t.id AND a.kind = 'scim_token.rotated'
        AND a.kind <> 'scim_token.used' AND a.position < asked.end_position
    ORDER BY a.position DESC LIMIT 1
) rotated ON true
LEFT JOIN LATERAL (
    SELECT a.at, a.kind FROM {audit_trail} a
    WHERE t.updated_at > asked.at AND a.token_id = t.id
        AND a.kind IN ('scim_token.suspended', 'scim_token.resumed')
        AND a.kind <> 'scim_token.used' AND a.position < asked.end_position
    ORDER BY a.position DESC LIMIT 1
) paused ON true
LEFT JOIN LATERAL (
    SELECT a.at FROM {audit_trail} a
    WHERE t.rotated_at IS NOT NULL AND t.updated_at > asked.at AND a.token_id = t.id
        AND a.kind IN ('scim_token.rotation_completed', 'scim_token.rotation_cancelled')
        AND a.kind <> 'scim_token.used' AND a.position < asked.end_position
    ORDER BY a.position DESC LIMIT 1
) ended ON true
LEFT JOIN LATERAL (
    SELECT a.name FROM {audit_trail} a
    WHERE t.updated_at > asked.at AND a.token_id = t.id AND a.name IS NOT NULL
        AND a.kind IN ('scim_token.created', 'scim_token.changed')
        AND a.position < asked.end_position
    ORDER BY a.position DESC LIMIT 1
) named ON true
LEFT JOIN LATERAL (
    SELECT a.ends_at FROM {audit_trail} a
    WHERE t.updated_at > asked.at AND a.token_id = t.id AND a.ends_at IS NOT NULL
        AND a.kind IN ('scim_token.created', 'scim_token.changed')
        AND a.position < asked.end_position
    ORDER BY a.position DESC LIMIT 1
) bound ON true
LEFT JOIN LATERAL (
    SELECT a.at FROM {audit_trail} a
    WHERE t.updated_at > asked.at AND a.token_id = t.id
        AND a.kind IN ('scim_token.created', 'scim_token.changed')
        AND a.position < asked.end_position
    ORDER BY a.position DESC LIMIT 1
) changed ON true
ORDER BY t.created_at DESC, t.id DESC;
