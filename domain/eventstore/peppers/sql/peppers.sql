-- The fingerprints of the pepper's keys, one row a generation.
-- Order: none, unless a statement says so.
-- Locks: none but those of the rows that it writes.
-- Index: pepper_generations_pkey, unless a statement says so.

-- name: require
-- Compares the given fingerprints, in order of generation, with those that the ledger has.
-- Returns: nothing of use; raises SQLSTATE SL002 where one is missing or another (0008).
SELECT ledger.require_pepper(%s::bytea[]);

-- name: count_generations
-- Returns: how many generations the ledger has.
SELECT count(*) FROM ledger.pepper_generations;

-- name: newest_generation
-- Returns: the newest generation that the ledger has, 0 where it has none.
SELECT coalesce(max(generation), 0) FROM ledger.pepper_generations;

-- name: take_time
-- Lifts the limits of a session until the transaction ends, for what reads every secret.
-- Returns: nothing of use; one row for each limit that this release of PostgreSQL has.
-- Index: none; the settings of the session.
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout');

-- name: newest_generation_of_secrets
-- The newest generation that a stored secret was digested with, of a ledger without fingerprints.
-- Returns: its number, 0 where there is no secret.
-- Index: none; reads every secret, once in the life of a ledger.
SELECT ledger.newest_pepper_generation();

-- name: may_rekey
-- Whether every process may be taken to know a generation, and the events of this release: it is
-- the newest, and neither a key nor a migration came lately, by the database's clock.
-- Returns: one boolean.
-- Index: pepper_generations_pkey, migrations_pkey; both tables have a row for each.
SELECT (SELECT max(generation) = %s AND max(recorded_at) <= clock_timestamp() - %s::interval
        FROM ledger.pepper_generations)
    AND (SELECT max(applied_at) <= clock_timestamp() - %s::interval FROM ledger.migrations);

-- name: count_digests
-- How many digests of each generation may authenticate, now or once their token is resumed.
-- Returns: generation; when its key was added, NULL where the ledger has no fingerprint of it; the
--   digests of SCIM tokens, and those of API tokens.
-- Order: generation.
-- Index: none; reads the state of every token, some seconds for a million.
SELECT generation, k.recorded_at, count(held.kind) FILTER (WHERE held.kind = 'scim_token'),
    count(held.kind) FILTER (WHERE held.kind = 'api_token')
FROM ledger.pepper_generations k FULL JOIN (
    SELECT a.kind, digest.generation
    FROM ledger.aggregates a
    CROSS JOIN LATERAL (SELECT convert_from(a.state, 'UTF8')::jsonb) AS decoded (s)
    CROSS JOIN LATERAL (
        SELECT one -> 'digest' -> 'key_generation', one ->> 'overlap_until'
        FROM jsonb_array_elements(s -> 'secrets') AS one
        UNION ALL
        SELECT s -> 'digest' -> 'key_generation', NULL WHERE a.kind = 'api_token'
        UNION ALL
        SELECT one -> 'digest' -> 'key_generation', one ->> 'good_until'
        FROM jsonb_array_elements(s -> 'older') AS one
    ) AS held (of_key, until)
    CROSS JOIN LATERAL (
        SELECT held.of_key::int, held.until::timestamptz
    ) AS digest (generation, ends_at)
    WHERE a.kind IN ('scim_token', 'api_token') AND s ->> 'revoked_at' IS NULL
        AND coalesce((s ->> 'expires_at')::timestamptz, 'infinity') > clock_timestamp()
        AND coalesce(digest.ends_at, 'infinity') > clock_timestamp()
) AS held USING (generation)
GROUP BY generation, k.recorded_at
ORDER BY generation;

-- name: record
-- Writes down the fingerprints of generations that the ledger lacks.
-- Returns: nothing; the count of rows is the number of generations that were added.
INSERT INTO ledger.pepper_generations (generation, fingerprint)
SELECT ord, fingerprint FROM unnest(%s::bytea[]) WITH ORDINALITY AS k (fingerprint, ord)
ON CONFLICT DO NOTHING;

-- name: is_needed
-- Whether the ledger needs a certain pepper: it has secrets, and they were not given up.
-- Returns: one boolean.
-- Index: none; the first row of each table answers.
SELECT EXISTS (SELECT FROM ledger.pepper_generations) OR (
    EXISTS (SELECT FROM ledger.secrets)
    AND NOT EXISTS (SELECT FROM ledger.repairs WHERE kind = 'pepper')
);
