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
