-- Whose locks are in the way of an append, asked as the service's role, which does not see what
-- others do, but who they are.
-- Order: none, unless a statement says so.
-- Locks: none, but for a moment all of the server's list of locks.
-- Index: none: statistics views and catalogues.

-- name: in_the_way
-- Whoever holds, or waits for, a lock of a table of the ledger that shuts writers out, or holds the
-- append lock, and stays longer than an append may wait. A prepared transaction has no process.
-- Returns: one text each, for the operator; as many as are asked for.
-- Order: those who hold one first, the longest wait first.
SELECT coalesce('process ' || pid, 'a prepared transaction')
    || coalesce(' of ' || usename, '') || coalesce(' (' || nullif(application_name, '') || ')', '')
    || CASE WHEN granted THEN ' holds ' ELSE ' waits for ' END || what
    || CASE WHEN granted THEN '' ELSE coalesce(
        ', behind process ' || array_to_string(pg_blocking_pids(pid), ', '), '') END
    || CASE WHEN wait_event = 'SyncRep'
        THEN ', and waits for the synchronous standby: to end it confirms nothing' ELSE '' END
FROM (
    SELECT l.pid, l.granted, l.waitstart, coalesce(
        l.mode || ' on ' || string_agg(r.name, ', ' ORDER BY r.name), 'the append lock') AS what
    FROM pg_locks AS l
    LEFT JOIN LATERAL (
        SELECT nspname || '.' || relname AS name FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = l.relation AND n.nspname = 'ledger' AND c.relkind IN ('r', 'p')
    ) AS r ON l.locktype = 'relation'
    WHERE l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (
            r.name IS NOT NULL AND l.mode IN (
                'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
            )
            OR l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                AND (l.classid::bigint << 32 | l.objid::bigint) = 7239075814
        )
    GROUP BY l.pid, l.virtualtransaction, l.granted, l.waitstart, l.mode, l.locktype
) AS held
LEFT JOIN pg_stat_activity USING (pid)
ORDER BY granted DESC, waitstart LIMIT %s;
