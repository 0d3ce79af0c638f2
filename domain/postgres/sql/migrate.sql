-- What is done beside the migrations themselves, as the owner, in their transaction and under their
-- lock.
-- Returns: nothing.
-- Order: none.
-- Index: none.

-- name: wait_briefly
-- Before each migration: whoever uses a table that it waits for would wait behind it, and a use
-- waits 450 ms at most.
-- Locks: none.
SET LOCAL lock_timeout = '300ms';

-- name: keep_numbers
-- Where the numbers of the migrations are kept that a database has.
-- Locks: none where it is there.
CREATE TABLE IF NOT EXISTS ledger.migrations
    (number int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());

-- name: app_role_rights
-- Least privilege: no UPDATE, DELETE or TRUNCATE on events, no DDL outside the schema of the views.
-- Granted again by each `migrate`, so a new table is added here. `heads` is a name that the release
-- before knows (0009).
-- Locks: none on tables; rows of the catalogue.
GRANT USAGE ON SCHEMA ledger TO {role};
GRANT USAGE, CREATE ON SCHEMA views TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO {role};
GRANT INSERT ON ledger.events, ledger.pepper_generations TO {role};
GRANT INSERT, UPDATE ON ledger.stream_heads, ledger.heads TO {role};
GRANT INSERT, UPDATE ON ledger.aggregates, ledger.secrets TO {role};
GRANT INSERT, UPDATE ON ledger.projection_rebuilds TO {role};
GRANT INSERT, UPDATE, DELETE ON ledger.commands, ledger.projection_positions TO {role};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger TO {role};
