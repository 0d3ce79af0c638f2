-- Whether two versions of a view hold the same rows.
-- Locks: none.

-- name: columns
-- Returns: name, type and NOT NULL of each column of a table; no row of a table that is missing.
-- Order: that of the columns.
-- Index: pg_attribute_relid_attnum_index.
SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- name: may_read
-- Returns: whether this role may.
-- Order: one row.
-- Index: none.
SELECT has_table_privilege(%s, 'SELECT');

-- name: digest
-- The sum of the hashes of all rows, in whatever order they lie, in constant memory. PostgreSQL's
-- hash of a row is a sum over its columns, so that values which two rows exchange would leave the
-- total as it was: it is hashed once more.
-- Returns: the count of rows, and the sum.
-- Order: one row.
-- Index: none; reads every row.
SELECT count(*), coalesce(sum(hashtextextended(hash_record_extended(t, 0)::text, 0)), 0)
FROM {table} t;

-- name: first_difference
-- Names places, and never shows what is there.
-- Returns: the key of the first row that differs, whether it is missing in the live version,
--   whether it is surplus there, and the names of the columns that differ; no row where all are
--   equal.
-- Order: the key; of the names that of the columns.
-- Index: the primary keys of both, or a scan of each.
SELECT key::text, live IS NULL, new IS NULL, ARRAY(
    SELECT of_live.key
    FROM json_each_text(row_to_json(live)) WITH ORDINALITY AS of_live (key, value, place)
    JOIN json_each_text(row_to_json(new)) AS of_new (key, value) ON of_new.key = of_live.key
    WHERE of_live.value IS DISTINCT FROM of_new.value ORDER BY of_live.place
)
FROM (
    SELECT coalesce(l.{key}, n.{key}) AS key, l AS live, n AS new
    FROM {live} l FULL JOIN {new} n ON l.{key} = n.{key}
    WHERE (l.*) IS DISTINCT FROM (n.*) ORDER BY 1 LIMIT 1
) first;
