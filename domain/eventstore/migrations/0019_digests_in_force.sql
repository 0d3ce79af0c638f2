-- As in 0016, but each state is decoded once (`OFFSET 0`) and not by every part that reads it: six times as fast.
-- Every digest of a secret that could be let in after an instant, suspended tokens included, and of a setup link that
-- could hand its token over: `kind` is scim_token, api_token or setup_link. It reads the state of every token.
CREATE OR REPLACE FUNCTION ledger.digests_in_force(after timestamptz) RETURNS TABLE (
    originator_id uuid, kind text, generation int
) LANGUAGE sql STABLE AS $$
    SELECT a.originator_id, held.kind, held.of_key::int
    FROM ledger.aggregates a
    CROSS JOIN LATERAL (SELECT convert_from(a.state, 'UTF8')::jsonb OFFSET 0) AS decoded (s)
    CROSS JOIN LATERAL (
        SELECT a.kind, one -> 'digest' -> 'key_generation', one ->> 'overlap_until'
        FROM jsonb_array_elements(s -> 'secrets') AS one
        UNION ALL
        SELECT a.kind, s -> 'digest' -> 'key_generation', NULL WHERE a.kind = 'api_token'
        UNION ALL
        SELECT a.kind, one -> 'digest' -> 'key_generation', one ->> 'good_until'
        FROM jsonb_array_elements(s -> 'older') AS one
        UNION ALL
        SELECT 'setup_link', coalesce(s -> 'setup_link' -> 'key_generation', '1'), s -> 'setup_link' ->> 'ends_at'
        WHERE jsonb_typeof(s -> 'setup_link') = 'object' AND s -> 'setup_link' ->> 'revealed_at' IS NULL
    ) AS held (kind, of_key, ends_at)
    WHERE a.kind IN ('scim_token', 'api_token') AND s ->> 'revoked_at' IS NULL
        AND coalesce((s ->> 'expires_at')::timestamptz, 'infinity') > after
        AND coalesce(held.ends_at::timestamptz, 'infinity') > after
$$;
