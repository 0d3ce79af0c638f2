-- What the doctor asks of the server: catalogues and statistics views of PostgreSQL.
-- Order: none, unless a statement says so.
-- Locks: none.
-- Index: none of ours.

-- name: collation
-- Whether the operating system, or ICU, orders texts as it did when the database was made. What the
-- database has no version of, such as the locale C, never changes.
-- Returns: one row: the locale, the version that the database knows and the one that there is, and
--   the indexes of ours that are in this order.
SELECT datcollate, datcollversion, pg_database_collation_actual_version(oid), ARRAY(
    SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace IN (to_regnamespace('ledger'), to_regnamespace('views'))
        AND 'pg_catalog."default"'::regcollation = ANY(i.indcollation)
    ORDER BY 1
)
FROM pg_database WHERE datname = current_database();

-- name: takes_writes
-- Returns: whether it is a standby, and whether transactions are read-only unless they say
--   otherwise.
SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on';

-- name: overridden_settings
-- Returns: of the given settings, those that this database or role states by itself.
-- Order: by name.
SELECT DISTINCT split_part(entry, '=', 1) FROM pg_db_role_setting, unnest(setconfig) AS entry
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
    AND lower(split_part(entry, '=', 1)) = ANY(%s)
ORDER BY 1;

-- name: standbys
-- A role without pg_monitor sees that there are standbys, and not what they are.
-- Returns: one row: the setting, how many are connected, how many confirm commits, whether some are
--   hidden.
SELECT current_setting('synchronous_standby_names'), count(pid),
    count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')),
    bool_or(pid IS NOT NULL AND state IS NULL)
FROM (SELECT) AS one LEFT JOIN pg_stat_replication ON true;

-- name: room
-- Returns: one row: connections that the server gives to such a role, those of others, another
--   ledger's included, and the limits of the role and of the database, -1 for none.
SELECT current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0),
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
        AND (datname IS DISTINCT FROM current_database()
            OR application_name NOT LIKE 'scim-ledger%')),
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database());

-- name: never_vacuumed
-- Returns: tables of ours that autovacuum leaves out.
-- Order: by name.
SELECT relnamespace::regnamespace || '.' || relname FROM pg_class
WHERE relnamespace IN (to_regnamespace('ledger'), to_regnamespace('views'))
    AND EXISTS (
        SELECT FROM pg_options_to_table(reloptions)
        WHERE CASE option_name WHEN 'autovacuum_enabled' THEN NOT option_value::boolean END
    )
ORDER BY 1;

-- name: oldest_ids
-- How far the ids have come since the oldest that is not cleared away, of the whole server: its
-- limit is that of its oldest database. PostgreSQL's own vacuum hurries from its failsafe age on.
-- Returns: what is counted, the database, how many, and from how many on that is late.
-- Order: transaction ids, then multixact ids.
(SELECT 'transaction ids', datname, age(datfrozenxid),
    current_setting('vacuum_failsafe_age')::bigint
FROM pg_database ORDER BY age(datfrozenxid) DESC LIMIT 1)
UNION ALL
(SELECT 'multixact ids', datname, mxid_age(datminmxid),
    current_setting('vacuum_multixact_failsafe_age')::bigint
FROM pg_database ORDER BY mxid_age(datminmxid) DESC LIMIT 1);

-- name: held_back
-- What keeps dead rows from being removed.
-- Returns: one text each, for the operator.
SELECT 'a transaction of ' || (clock_timestamp() - xact_start)::interval(0)
    || ' ago (pid ' || pid || ')'
FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
    AND backend_type = 'client backend' AND xact_start < clock_timestamp() - %(max)s::interval
UNION ALL
SELECT 'a prepared transaction of ' || (clock_timestamp() - prepared)::interval(0) || ' ago'
FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - %(max)s::interval
UNION ALL
SELECT 'the replication slot ' || slot_name || ', which nobody reads'
FROM pg_replication_slots WHERE NOT active;

-- name: logged
-- Settings by which statements, and so what is in them, get into the server's log.
-- Returns: name=value, one text each.
-- Order: by name.
SELECT name || '=' || setting FROM pg_settings
WHERE (name = 'log_statement' AND setting IN ('mod', 'all'))
    OR (setting <> '-1' AND name IN (
        'log_min_duration_statement', 'log_min_duration_sample', 'auto_explain.log_min_duration'
    ))
    OR (name = 'log_transaction_sample_rate' AND setting <> '0')
ORDER BY 1;
