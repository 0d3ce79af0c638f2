-- Which keys the ledger's digests were made with: a fingerprint of each generation of the pepper, so that a
-- service with another key says so before it answers 401 for every good token. The app role may add and read.
CREATE TABLE ledger.pepper_generations (
    generation int PRIMARY KEY CHECK (generation > 0),
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16),
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Refuse keys that are not those of the ledger, in their order, or that leave one out; newer ones may follow.
CREATE FUNCTION ledger.require_pepper(fingerprints bytea[]) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    wrong int;
BEGIN
    SELECT min(generation) INTO wrong FROM ledger.pepper_generations
    WHERE fingerprint IS DISTINCT FROM fingerprints[generation];
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'SL002', MESSAGE = format(
            'the pepper is not the one of this ledger: its key of generation %s is %s; '
            'give every key that the ledger knows, in order, the oldest first', wrong,
            CASE WHEN wrong > cardinality(fingerprints) THEN 'missing' ELSE 'another' END
        );
    END IF;
END $$;

-- The newest generation that any secret of the ledger was digested under, 0 where there is none. Asked once, by
-- the first start that finds no fingerprints: it reads every state row.
CREATE FUNCTION ledger.newest_pepper_generation() RETURNS int LANGUAGE sql STABLE AS $$
    SELECT coalesce(max((digest ->> 'key_generation')::int), 0)
    FROM ledger.aggregates, LATERAL (SELECT convert_from(state, 'UTF8')::jsonb) AS decoded (s),
        LATERAL jsonb_path_query(s, '$.** ? (exists (@.key_generation))') AS digest
    WHERE kind IN ('scim_token', 'api_token')
$$;
