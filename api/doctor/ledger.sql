-- What the doctor asks of the ledger. Read as the service's role, so each asks only what that role
-- may see.
-- Order: none, unless a statement says so.
-- Locks: none.
-- Index: none, unless a statement says so: catalogues, and tables of a few rows.

-- name: may_look
-- Returns: whether the role may use the schema; no row where there is none.
SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'ledger';

-- name: rights_on_events
-- Returns: whether the role is a superuser, whether it owns the events, and what it may do to them
--   beyond reading and adding.
SELECT r.rolsuper, pg_has_role(c.relowner, 'USAGE'),
    array_remove(ARRAY[
        CASE WHEN has_table_privilege('ledger.events', 'UPDATE') THEN 'UPDATE' END,
        CASE WHEN has_table_privilege('ledger.events', 'DELETE') THEN 'DELETE' END,
        CASE WHEN has_table_privilege('ledger.events', 'TRUNCATE') THEN 'TRUNCATE' END
    ], NULL)
FROM pg_class c, pg_roles r WHERE c.oid = 'ledger.events'::regclass AND r.rolname = current_user;

-- name: lacking_rights
-- Returns: what the role needs and may not do, one text a right.
SELECT privilege || ' on ' || needed.name
FROM unnest(%s::text[], %s::text[]) AS needed (name, privileges),
    LATERAL unnest(string_to_array(needed.privileges, ' ')) AS privilege
WHERE to_regclass(needed.name) IS NULL OR NOT has_table_privilege(needed.name, privilege)
UNION ALL
SELECT 'CREATE on the schema views'
WHERE NOT coalesce(has_schema_privilege(to_regnamespace('views'), 'CREATE'), false)
UNION ALL
SELECT 'EXECUTE on ' || p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'ledger'::regnamespace AND NOT has_function_privilege(p.oid, 'EXECUTE');

-- name: owners_of_views
-- Returns: the roles other than its own whose tables the views are, and its own.
-- Order: one row.
SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ', '), current_user FROM pg_class
WHERE relnamespace = to_regnamespace('views') AND relkind IN ('r', 'p')
    AND NOT pg_has_role(relowner, 'USAGE');

-- name: clock_and_last_instant
-- Returns: the database's clock, and ledger time; the latter NULL where there is no event.
-- Order: one row.
-- Index: events_notification_id, backwards, one entry.
SELECT clock_timestamp(), (SELECT at FROM ledger.events ORDER BY notification_id DESC LIMIT 1);

-- name: repairs
-- Returns: kind and day of each repair.
-- Order: as they were made.
-- Index: repairs_pkey.
SELECT kind, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM ledger.repairs ORDER BY id;

-- name: retired_keys
-- Returns: how many keys of the pepper are retired.
-- Order: one row.
-- Index: none; the table has a row for each key.
SELECT count(*) FROM ledger.pepper_generations WHERE retired_at IS NOT NULL;

-- name: old_versions
-- Returns: the versions of views that this release does not read and no later one made, as
-- <name>_v<version>.
-- Order: by name.
SELECT name || '_v' || version
FROM ledger.projection_positions
JOIN unnest(%s::text[], %s::int[]) AS known (name, shape) USING (name)
WHERE projection_positions.shape < known.shape
    OR (projection_positions.shape = known.shape AND role = 'retired')
ORDER BY 1;

-- name: is_restricted
-- Whether a token that may be good is so from certain networks alone.
-- Returns: one boolean.
-- Index: none; where there is none, it reads the rows of all secrets.
SELECT EXISTS (
    SELECT FROM ledger.secrets WHERE networks IS NOT NULL AND good_until > '-infinity'
);
