-- What is done beside the migrations themselves, as the owner, in their transaction and under their
-- lock.
-- Returns: nothing, unless it says what.
-- Order: none.
-- Index: none.

-- name: wait_briefly
-- Before each migration: whoever uses a table that it waits for would wait behind it, and a use
-- waits 450 ms at most. Whoever falls silent between two statements loses the session, for it holds
-- the tables that it has changed. Until the transaction ends.
-- Locks: none.
SET LOCAL lock_timeout = '300ms';
SET LOCAL idle_in_transaction_session_timeout = '5s';

-- name: keep_numbers
-- Where the numbers of the migrations are kept that a database has.
-- Locks: none where it is there.
CREATE TABLE IF NOT EXISTS ledger.migrations
    (number int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());

-- name: is_expansion
-- A migration that only added: a release that does not know it starts all the same.
-- Locks: the row.
UPDATE ledger.migrations SET is_expansion = true WHERE number = %s;

-- name: expansions
-- Returns: (number) of each of them; of none where the database does not tell yet.
-- Locks: none.
SELECT number FROM ledger.migrations AS each WHERE (to_jsonb(each) ->> 'is_expansion')::boolean;

-- name: holders
-- Who else holds tables of the ledger.
-- Returns: (pid, transaction, user, application, seconds, tables), the longest first. Application
-- and seconds are NULL where the role may not see them of another's.
-- Order: by the age of the transaction.
-- Locks: none.
SELECT
    activity.pid,
    locks.virtualtransaction,
    coalesce(activity.usename::text, 'another role'),
    activity.application_name,
    extract(epoch FROM clock_timestamp() - activity.xact_start)::int,
    string_agg(DISTINCT locks.relation::regclass::text, ' ')
FROM pg_locks AS locks
JOIN pg_stat_activity AS activity USING (pid)
JOIN pg_class AS class ON class.oid = locks.relation
WHERE locks.granted
    AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND class.relnamespace = 'ledger'::regnamespace
    AND class.relkind IN ('r', 'p')
    AND activity.pid NOT IN (%s, pg_backend_pid())
GROUP BY activity.pid, locks.virtualtransaction, activity.usename, activity.application_name,
    activity.xact_start
ORDER BY activity.xact_start;

-- name: owners
-- Whom the ledger belongs to: one role, or several where each has migrated it.
-- Returns: (role, whether it is ours, whether we may act as it); no row where there is no ledger.
-- Order: the schema's owner first.
-- Locks: none.
SELECT pg_get_userbyid(owner), pg_get_userbyid(owner) = current_user, pg_has_role(owner, 'MEMBER')
FROM (
    SELECT nspowner AS owner, nspname = 'ledger' AS is_first FROM pg_namespace
    WHERE nspname IN ('ledger', 'views') AND to_regnamespace('ledger') IS NOT NULL
    UNION ALL
    SELECT relowner, false FROM pg_class WHERE relnamespace = to_regnamespace('ledger')
    UNION ALL
    SELECT proowner, false FROM pg_proc WHERE pronamespace = to_regnamespace('ledger')
) AS parts
GROUP BY owner
ORDER BY bool_or(is_first) DESC, owner;

-- name: act_as
-- What is made from now on belongs to this role, to the end of the transaction or until we are
-- ourselves again.
-- Locks: none.
SET LOCAL ROLE {role};

-- name: be_ourselves
-- Locks: none.
RESET ROLE;

-- name: views_schema
-- No backup has it.
-- Locks: none on tables; rows of the catalogue.
CREATE SCHEMA IF NOT EXISTS views AUTHORIZATION {role};

-- name: functions_are_nobodys
-- Whoever may look into the schema could call every new function of it, also one that runs as the
-- owner: PostgreSQL grants that to PUBLIC. Taken away by each `migrate`, in the transaction that
-- made them; default privileges cannot, in one schema only.
-- Locks: none on tables; rows of the catalogue.
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA ledger FROM PUBLIC;

-- name: app_role_rights
-- Least privilege: no UPDATE, DELETE or TRUNCATE on events, no DDL outside the schema of the views.
-- Granted again by each `migrate`, so a new table is added here. `heads` is a name that the release
-- before knows (0009).
-- Locks: none on tables; rows of the catalogue.
GRANT USAGE ON SCHEMA ledger TO {role};
GRANT USAGE, CREATE ON SCHEMA views TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO {role};
GRANT SELECT ON SEQUENCE ledger.events_notification_id_seq TO {role};
GRANT INSERT ON ledger.events, ledger.pepper_generations TO {role};
GRANT INSERT, UPDATE ON ledger.stream_heads, ledger.heads TO {role};
GRANT INSERT, UPDATE ON ledger.aggregates, ledger.api_tokens, ledger.secrets TO {role};
GRANT INSERT, UPDATE ON ledger.projection_rebuilds TO {role};
GRANT INSERT, UPDATE, DELETE ON ledger.commands, ledger.projection_positions TO {role};
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA ledger TO {role};

-- name: may_follow
-- Returns: whether this role may look at a sequence and set it; NULL where there is none yet.
-- Locks: none.
SELECT has_sequence_privilege(oid, 'SELECT') AND has_sequence_privilege(oid, 'UPDATE')
FROM (SELECT to_regclass(%s)::oid) AS sequence (oid);

-- name: sequence_follows
-- What rows were copied without: logical replication carries no sequence over. The next event would
-- be refused, or get a position that is passed already, at which no view looks any more.
-- Returns: a row where it was behind.
-- Locks: none; whoever appends meanwhile has taken a later number before.
-- Index: the one of the column, one entry.
SELECT setval(%s::regclass, newest)
FROM {sequence}, (SELECT max({column}) AS newest FROM {table}) AS there
WHERE newest >= last_value + is_called::int;
