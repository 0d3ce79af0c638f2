-- Two releases at once: while one is deployed over another, each reads the view in the shape that it knows.
DROP INDEX ledger.projection_positions_live;
CREATE UNIQUE INDEX projection_positions_live ON ledger.projection_positions (name, shape) WHERE role = 'live';

-- Rebuilds that were asked for, under way and done. Whoever asks writes a row; a projection process carries it
-- out, and goes on where another one died: the row stays until it has finished.
CREATE TABLE ledger.projection_rebuilds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    shape int NOT NULL,
    accepts_difference boolean NOT NULL DEFAULT false,
    state text NOT NULL DEFAULT 'requested'
        CHECK (state IN ('requested', 'building', 'indexing', 'comparing', 'switching', 'done', 'failed')),
    version int,
    position bigint NOT NULL DEFAULT 0,
    target bigint NOT NULL DEFAULT 0,
    error text,
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX projection_rebuilds_underway ON ledger.projection_rebuilds (name, shape)
    WHERE finished_at IS NULL;
COMMENT ON COLUMN ledger.projection_rebuilds.accepts_difference IS 'switch even where the new rows differ from the live ones';
COMMENT ON COLUMN ledger.projection_rebuilds.target IS 'the last event of the ledger when position was written';
