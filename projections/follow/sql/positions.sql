-- The pointer rows, one for each built version of a view: `ledger.projection_positions`. There are
-- a few of them, so the primary key (name, version) or a scan of the page finds each.
-- Order: none, unless a statement says so.
-- Locks: none but those of the rows that it writes, unless a statement says so.
-- Index: projection_positions_pkey, unless a statement says so.

-- name: all
-- Every version that is live or building, and how far the ledger is: one statement, so one
-- snapshot.
-- Returns: one row a version; last the notification id of the newest event and the instant of the
--   first event that was not applied.
-- Order: name, version.
-- Index: events_notification_id, one entry for each of the last two columns.
SELECT p.name, version, shape, position, role, stopped_at, error, updated_at,
    coalesce((SELECT max(notification_id) FROM ledger.events), 0) AS head,
    (SELECT e.at FROM ledger.events e WHERE e.notification_id > p.position
        ORDER BY e.notification_id LIMIT 1) AS waiting_since
FROM ledger.projection_positions p WHERE role <> 'retired' ORDER BY name, version;

-- name: states
-- How the views of this release are, by name and shape.
-- Returns: one row for each view that is asked for: live, stopped (and at which event), or building
--   where no version is live yet; and how many events it is behind, at most.
-- Order: name.
-- Index: projection_positions_live; events_notification_id, backwards, one entry.
SELECT known.name,
    CASE WHEN stopped_at IS NOT NULL THEN 'stopped' ELSE coalesce(role, 'building') END,
    stopped_at,
    coalesce((SELECT max(notification_id) FROM ledger.events), 0) - coalesce(position, 0)
FROM unnest(%s::text[], %s::int[]) AS known (name, shape)
LEFT JOIN ledger.projection_positions p
    ON p.name = known.name AND p.shape = known.shape AND p.role = 'live'
ORDER BY known.name;

-- name: live_versions
-- What readers of a release look up: its own shapes, also while those of another release are live.
-- Returns: name and version of each view that is asked for and live.
-- Index: projection_positions_live.
SELECT name, version FROM ledger.projection_positions
WHERE (name, shape) IN (SELECT * FROM unnest(%s::text[], %s::int[])) AND role = 'live';

-- name: is_live
-- Returns: a row where the view has a live version of this shape.
-- Index: projection_positions_live.
SELECT FROM ledger.projection_positions WHERE name = %s AND shape = %s AND role = 'live';

-- name: of_shapes_until
-- Returns: version, shape and role of every version of a view, up to a shape.
-- Order: version.
SELECT version, shape, role FROM ledger.projection_positions
WHERE name = %s AND shape <= %s ORDER BY version;

-- name: building
-- Returns: the versions of a view that a rebuild has begun and not finished.
SELECT version FROM ledger.projection_positions
WHERE name = %s AND shape = %s AND role = 'building';

-- name: hold
-- Holds the live version where it is: the runner moves a position in the transaction of its rows.
-- Returns: version and position of the given version and of the live one.
-- Order: version, so that two that hold both do not wait for each other.
-- Locks: both rows, to the end of the transaction.
SELECT version, position FROM ledger.projection_positions
WHERE name = %s AND (version = %s OR (shape = %s AND role = 'live')) ORDER BY version FOR UPDATE;

-- name: move
-- Guards exactly-once: a second runner, or a switch meanwhile, finds no row to move and rolls back.
-- Returns: nothing; the count of rows is 1 where it has moved.
UPDATE ledger.projection_positions SET position = %s, updated_at = now()
WHERE name = %s AND version = %s AND position = %s AND role = %s;

-- name: stop
-- The event that the version cannot apply, and why.
-- Returns: nothing.
UPDATE ledger.projection_positions SET stopped_at = %s, error = %s, updated_at = now()
WHERE name = %s AND version = %s;

-- name: retry
-- Lets a stopped view try its event again; one that cannot be applied stops it again.
-- Returns: nothing; the count of rows is 1 where it was stopped.
-- Index: projection_positions_live.
UPDATE ledger.projection_positions SET stopped_at = NULL, error = NULL, updated_at = now()
WHERE name = %s AND shape = %s AND role = 'live' AND stopped_at IS NOT NULL;

-- name: retire
-- Readers leave the live version of this shape.
-- Returns: nothing.
-- Index: projection_positions_live.
UPDATE ledger.projection_positions SET role = 'retired'
WHERE name = %s AND shape = %s AND role = 'live';

-- name: go_live
-- Readers come to this version.
-- Returns: nothing.
UPDATE ledger.projection_positions SET role = 'live', updated_at = now()
WHERE name = %s AND version = %s;

-- name: lock_versions
-- Held while a version gets its number or loses its table.
-- Returns: nothing of use.
-- Locks: an advisory one, to the end of the transaction.
-- Index: none.
SELECT pg_advisory_xact_lock(7239075816);

-- name: next_version
-- Beyond every row, and every table that somebody has left without one.
-- Returns: a number.
-- Locks: none; the caller holds `lock_versions`.
-- Index: projection_positions_pkey; pg_class by a scan.
SELECT 1 + greatest(
    (SELECT max(version) FROM ledger.projection_positions WHERE name = %(name)s),
    (SELECT max(substring(relname FROM '[0-9]+$')::int) FROM pg_class
        WHERE relnamespace = 'views'::regnamespace
            AND relname ~ ('^' || %(name)s || '_v[0-9]{1,6}$')),
    0
);

-- name: add
-- The row of a version that has just been made.
-- Returns: nothing.
INSERT INTO ledger.projection_positions (name, version, shape, role) VALUES (%s, %s, %s, %s);

-- name: remove
-- The row of a version whose table goes in the same transaction.
-- Returns: nothing.
DELETE FROM ledger.projection_positions WHERE name = %s AND version = %s;
