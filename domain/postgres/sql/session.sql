-- What a session states or asks about its durability.
-- Order: none.
-- Locks: none.
-- Index: none.

-- name: confirm
-- What is confirmed is on disk, and with the standby where the server demands one. Stronger
-- settings stay.
-- Returns: a row where it was weaker.
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local');

-- name: waits_for_standby
-- Whether a commit of this role, in this database, waits for a synchronous standby. What another
-- role waits for is not told.
-- Returns: true; no row where none does.
SELECT true FROM pg_stat_activity
WHERE wait_event = 'SyncRep' AND datname = current_database() LIMIT 1;

-- name: own_session
-- Which session this is, for whoever asks after it from another.
-- Returns: pid, backend_start.
SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid();

-- name: at_work
-- Whether this server works for a session; true where it does not track what sessions do.
-- Parameters: those that own_session returns.
-- Returns: true or false; no row where the session is gone.
SELECT coalesce(state, '') !~ '^idle' FROM pg_stat_activity WHERE pid = %s AND backend_start = %s;

-- name: has_program
-- Whether a program that says its name has a session in this database.
-- Parameters: the name.
-- Returns: true; no row where none of this role has.
SELECT true FROM pg_stat_activity
WHERE application_name = %s AND datname = current_database() LIMIT 1;

-- name: unsafe
-- Settings by which the server may lose what it has confirmed.
-- Returns: name=value, one text each.
SELECT name || '=' || setting FROM pg_settings
WHERE setting = 'off' AND name IN ('fsync', 'full_page_writes', 'synchronous_commit');
