-- What filling a new version asks beside its rows.
-- Order: none.
-- Locks: none.

-- name: take_index_memory
-- While an index is made: a million keys are sorted in the memory of the server without a file.
-- Returns: the setting.
-- Index: none.
SELECT set_config(name, greatest(setting::int, 256 * 1024) || 'kB', false)
FROM pg_settings WHERE name = 'maintenance_work_mem';

-- name: has_key
-- Returns: a row where the table has its primary key already.
-- Index: pg_index_indrelid_index.
SELECT FROM pg_index WHERE indrelid = %s::regclass AND indisprimary;
