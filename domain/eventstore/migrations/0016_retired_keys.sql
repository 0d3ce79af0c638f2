-- A key of the pepper is retired once no secret that could be let in is digested under it. It stays known, and need not
-- be given any more. The release before asks for it as ever. The owner writes it down; the app role cannot.
ALTER TABLE ledger.pepper_generations ADD COLUMN retired_at timestamptz;

-- As in 0008, but for keys that are retired: NULL may stand in the place of each. Where the ledger has some, the
-- refusal says so.
CREATE OR REPLACE FUNCTION ledger.require_pepper(fingerprints bytea[]) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    wrong int;
BEGIN
    SELECT min(generation) INTO wrong FROM ledger.pepper_generations
    WHERE fingerprint IS DISTINCT FROM fingerprints[generation]
        AND (retired_at IS NULL OR fingerprints[generation] IS NOT NULL);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'SL002', MESSAGE = format(
            'the pepper is not the one of this ledger: its key of generation %s is %s; '
            'give every key that the ledger knows, in order, the oldest first%s', wrong,
            CASE WHEN fingerprints[wrong] IS NULL THEN 'missing' ELSE 'another' END,
            CASE WHEN EXISTS (SELECT FROM ledger.pepper_generations WHERE retired_at IS NOT NULL)
                THEN ', and the word retired in the place of a retired one that you no longer have' ELSE '' END
        );
    END IF;
END $$;

-- Every digest of a secret that could be let in after an instant, suspended tokens included, and of a setup link that
-- could hand its token over: `kind` is scim_token, api_token or setup_link. It reads the state of every token.
CREATE FUNCTION ledger.digests_in_force(after timestamptz) RETURNS TABLE (
    originator_id uuid, kind text, generation int
) LANGUAGE sql STABLE AS $$
    SELECT a.originator_id, held.kind, held.of_key::int
    FROM ledger.aggregates a
    CROSS JOIN LATERAL (SELECT convert_from(a.state, 'UTF8')::jsonb) AS decoded (s)
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
