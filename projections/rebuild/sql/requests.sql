-- What was asked for, how far it is, how it ended: `ledger.projection_rebuilds`, one row a rebuild.
-- Order: none, unless a statement says so.
-- Locks: none but those of the rows that it writes.

-- name: request
-- Asks for a rebuild, where none is asked for or under way.
-- Returns: nothing; the count of rows is 1 where it is asked for now.
-- Index: projection_rebuilds_underway for the conflict.
INSERT INTO ledger.projection_rebuilds (name, shape, accepts_difference) VALUES (%s, %s, %s)
ON CONFLICT (name, shape) WHERE finished_at IS NULL DO NOTHING;

-- name: latest
-- Returns: the last rebuild of a view in a shape; no row where there was none.
-- Index: projection_rebuilds_pkey, backwards, to the first of the view.
SELECT name, state, version, position, target, error, accepts_difference, requested_at, started_at,
    updated_at, finished_at
FROM ledger.projection_rebuilds WHERE name = %s AND shape = %s ORDER BY id DESC LIMIT 1;

-- name: latest_of_each
-- Returns: the last rebuild of each of the views in their shapes; no row for one that had none.
-- Index: projection_rebuilds_pkey, backwards, to the first of each view.
SELECT r.name, r.state, r.version, r.position, r.target, r.error, r.accepts_difference,
    r.requested_at, r.started_at, r.updated_at, r.finished_at
FROM unnest(%s::text[], %s::integer[]) AS v (name, shape)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.projection_rebuilds
    WHERE name = v.name AND shape = v.shape ORDER BY id DESC LIMIT 1
) AS r;

-- name: underway
-- Returns: name and shape of each rebuild that is asked for or under way.
-- Order: the oldest first.
-- Index: projection_rebuilds_underway.
SELECT name, shape FROM ledger.projection_rebuilds WHERE finished_at IS NULL ORDER BY id;

-- name: begin
-- Takes up what was asked for or left behind, or asks and takes up at once.
-- Returns: its id, and whether a difference is accepted.
-- Index: projection_rebuilds_underway for the conflict.
INSERT INTO ledger.projection_rebuilds AS r (name, shape, accepts_difference, state, started_at)
VALUES (%s, %s, %s, 'building', now())
ON CONFLICT (name, shape) WHERE finished_at IS NULL DO UPDATE
SET state = 'building', started_at = now(), updated_at = now(), position = 0, error = NULL,
    accepts_difference = r.accepts_difference OR excluded.accepts_difference
RETURNING id, accepts_difference;

-- name: accept_differences
-- Of every rebuild that is asked for or under way.
-- Returns: nothing.
-- Index: projection_rebuilds_underway.
UPDATE ledger.projection_rebuilds SET accepts_difference = true WHERE finished_at IS NULL;

-- name: progress
-- How far it is.
-- Returns: nothing.
-- Index: projection_rebuilds_pkey.
UPDATE ledger.projection_rebuilds
SET state = %s, version = %s, position = %s, target = %s, updated_at = now() WHERE id = %s;

-- name: finish
-- It is over: done, or failed where there is an error.
-- Returns: nothing.
-- Index: projection_rebuilds_pkey.
UPDATE ledger.projection_rebuilds
SET state = CASE WHEN %(error)s::text IS NULL THEN 'done' ELSE 'failed' END, error = %(error)s,
    updated_at = now(), finished_at = now()
WHERE id = %(id)s;
