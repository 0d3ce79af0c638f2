-- The advisory locks of whoever leads a view.

-- name: another_release_leads
-- Whether a process leads a view in a shape that this release does not have.
-- Parameters: 'name/shape' of each view of this release.
-- Returns: one row, whether.
-- Order: none, one row.
-- Locks: none.
-- Index: none, the locks are in memory.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = 723907581
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND objid <> ALL (SELECT hashtext(shape)::oid FROM unnest(%s::text[]) AS shape)
);
