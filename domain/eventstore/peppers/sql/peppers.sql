-- The fingerprints of the pepper's keys, one row a generation.
-- Order: none, unless a statement says so.
-- Locks: none but those of the rows that it writes.
-- Index: pepper_generations_pkey, unless a statement says so.

-- name: require
-- Compares the given fingerprints, in order of generation, with those that the ledger has; NULL
-- stands for one that is retired.
-- Returns: nothing of use; raises SQLSTATE SL002 where one is missing or another (0008, 0016).
SELECT ledger.require_pepper(%s::bytea[]);

-- name: count_generations
-- Returns: how many generations the ledger has.
SELECT count(*) FROM ledger.pepper_generations;

-- name: fingerprints
-- Returns: the fingerprint of each generation up to the given one, and its number.
-- Order: by number, the newest first.
SELECT fingerprint, generation FROM ledger.pepper_generations
WHERE generation <= %s ORDER BY generation DESC;

-- name: newest_generation
-- Returns: the newest generation that the ledger has, 0 where it has none.
SELECT coalesce(max(generation), 0) FROM ledger.pepper_generations;

-- name: take_time
-- Lifts the limits of a session until the transaction ends, for what reads every secret.
-- Returns: nothing of use; one row for each limit that this release of PostgreSQL has.
-- Index: none; the settings of the session.
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout');

-- name: wait_briefly
-- Only for its locks it waits ten seconds at most, until the transaction ends. Whoever falls silent
-- loses the session: what holds the append lock holds every door up.
-- Returns: nothing of use.
-- Index: none; the settings of the session.
SELECT set_config('lock_timeout', '10s', true),
    set_config('idle_in_transaction_session_timeout', '3s', true);

-- name: hold_briefly
-- Under the append lock: what comes until the transaction ends takes milliseconds. Between two
-- messages of one exchange a session is neither idle nor in a statement; PostgreSQL 15 and 16 have
-- nothing for that but the keep-alives.
-- Returns: nothing of use; one row for each limit that this release of PostgreSQL has.
-- Index: none; the settings of the session.
SELECT set_config(name, '3s', true) FROM pg_settings
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
-- Returns: generation; when its key was added, NULL where the ledger has no fingerprint of it; when
--   it was retired; the digests of SCIM tokens, of API tokens, and of setup links.
-- Order: generation.
-- Index: none; reads the state of every token, some seconds for a million.
SELECT generation, k.recorded_at, k.retired_at, count(d.kind) FILTER (WHERE d.kind = 'scim_token'),
    count(d.kind) FILTER (WHERE d.kind = 'api_token'),
    count(d.kind) FILTER (WHERE d.kind = 'setup_link')
FROM ledger.pepper_generations k
FULL JOIN ledger.digests_in_force(clock_timestamp()) d USING (generation)
GROUP BY generation, k.recorded_at, k.retired_at
ORDER BY generation;

-- name: known_keys
-- Returns: each generation that the ledger has, and when it was retired, NULL for one that is not.
-- Order: generation.
SELECT generation, retired_at FROM ledger.pepper_generations ORDER BY generation;

-- name: reached
-- How far the ledger is, and what is over for whoever decides from now on: it has ended by ledger
-- time, or by the database's clock for longer than a process's clock may be behind.
-- Returns: the notification id of the newest event, 0 where there is none; an instant.
-- Order: one row.
-- Index: events_notification_id, backwards, one entry each.
SELECT coalesce(max(notification_id), 0), greatest(
    clock_timestamp() - %s::interval,
    (SELECT at FROM ledger.events ORDER BY notification_id DESC LIMIT 1)
)
FROM ledger.events;

-- name: holders
-- Who has digests of a generation that may authenticate after an instant.
-- Returns: how many digests there are; kind and token of some of them.
-- Order: kind, token.
-- Index: none; reads the state of every token, some seconds for a million.
SELECT count(*) OVER (), kind, originator_id FROM ledger.digests_in_force(%(after)s)
WHERE generation = %(generation)s ORDER BY kind, originator_id LIMIT 5;

-- name: changed_since
-- Returns: each stream that changed after a notification id, by anything but a use or a refusal.
-- Index: events_notification_id, the events since.
SELECT DISTINCT originator_id FROM ledger.events
WHERE notification_id > %s AND topic !~ '[.](used|refused)[.]';

-- name: holders_among
-- As `holders`, of some tokens. The instant is a parameter, and no expression: else the function
-- would read every state, and this is asked under the append lock.
-- Returns: how many digests there are; kind and token of some of them.
-- Order: kind, token.
-- Index: aggregates_pkey.
SELECT count(*) OVER (), kind, originator_id FROM ledger.digests_in_force(%(after)s)
WHERE generation = %(generation)s AND originator_id = ANY(%(among)s)
ORDER BY kind, originator_id LIMIT 5;

-- name: retire
-- Returns: nothing.
UPDATE ledger.pepper_generations SET retired_at = %s WHERE generation = %s;

-- name: record
-- Writes down the fingerprints of generations that the ledger lacks; NULL is none.
-- Returns: nothing; the count of rows is the number of generations that were added.
INSERT INTO ledger.pepper_generations (generation, fingerprint)
SELECT ord, fingerprint FROM unnest(%s::bytea[]) WITH ORDINALITY AS k (fingerprint, ord)
WHERE fingerprint IS NOT NULL
ON CONFLICT DO NOTHING;

-- name: is_needed
-- Whether the ledger needs a certain pepper: it has secrets, and they were not given up.
-- Returns: one boolean.
-- Index: none; the first row of each table answers.
SELECT EXISTS (SELECT FROM ledger.pepper_generations) OR (
    EXISTS (SELECT FROM ledger.secrets)
    AND NOT EXISTS (SELECT FROM ledger.repairs WHERE kind = 'pepper')
);
