-- The secrets of a token, for a `ViewReader` of `scim_tokens` and `usage`, which fills in names,
-- and what else its page tells: the networks that it is good from stand in no view.

-- name: secrets
-- Each secret that the token has or had, and when it was used. Uses that do not say with which
-- secret are counted for the only one where there was never another.
-- Returns: true; the token's document; with the first secret the networks that the token is good
--   from, as JSON, NULL where it never had any; id, when it was made, first and last use, and its
--   end: the first of the end of its overlap, the token's and its revocation. One row a secret.
-- Order: the oldest first.
-- Locks: none.
-- Index: scim_tokens_pkey; aggregates_pkey; for each secret the primary key of `usage`, one entry
--   from either end, past hours of refusals alone, and the hour that it is in.
SELECT true, t.before_use || t.last_use || t.after_use,
    CASE k.place WHEN 1 THEN (
        SELECT convert_from(state, 'UTF8')::json -> 'networks' FROM ledger.aggregates
        WHERE originator_id = t.id
    ) END,
    k.id, k.created_at, used.first_at, used.last_at,
    least(k.ended_at, t.expires_at, t.revoked_at)
FROM {scim_tokens} t
CROSS JOIN LATERAL ROWS FROM (
    jsonb_to_recordset(t.secrets::jsonb)
        AS (id text, created_at timestamptz, ended_at timestamptz)
) WITH ORDINALITY AS k (id, created_at, ended_at, place)
CROSS JOIN LATERAL (
    SELECT min(near_first.at) AS first_at, max(near_last.at) AS last_at
    FROM unnest(CASE jsonb_array_length(t.secrets::jsonb) WHEN 1
        THEN ARRAY[k.id, '--------'] ELSE ARRAY[k.id] END) AS one (secret)
    CROSS JOIN LATERAL (SELECT uuid_send(t.id) || convert_to(one.secret, 'UTF8') AS prefix) p
    LEFT JOIN LATERAL (
        SELECT substring(key FOR 28) AS hour FROM {usage}
        WHERE key >= prefix AND key < prefix || '\xff' AND uses > 0 ORDER BY key LIMIT 1
    ) f ON true
    LEFT JOIN LATERAL (
        SELECT min(first_at) AS at FROM {usage} WHERE key >= f.hour AND key < f.hour || '\xff'
    ) near_first ON true
    LEFT JOIN LATERAL (
        SELECT substring(key FOR 28) AS hour FROM {usage}
        WHERE key >= prefix AND key < prefix || '\xff' AND uses > 0 ORDER BY key DESC LIMIT 1
    ) l ON true
    LEFT JOIN LATERAL (
        SELECT max(last_at) AS at FROM {usage} WHERE key >= l.hour AND key < l.hour || '\xff'
    ) near_last ON true
) used
WHERE t.id = %(token)s AND (%(teams)s::uuid[] IS NULL OR t.team_id = ANY(%(teams)s::uuid[]))
ORDER BY k.place;
