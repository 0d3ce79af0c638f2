-- The read side's book-keeping: one row per built view table, views.<name>_v<version>.
-- The tables themselves are made by the app role in the schema views, so that a rebuild needs no right on
-- the ledger beyond reading it. Exactly one version of a name is live: readers follow this pointer.
CREATE TABLE ledger.projection_positions (
    name text NOT NULL,
    version int NOT NULL,
    shape int NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    role text NOT NULL CHECK (role IN ('building', 'live', 'retired')),
    stopped_at bigint,
    error text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX projection_positions_live ON ledger.projection_positions (name) WHERE role = 'live';
COMMENT ON COLUMN ledger.projection_positions.shape IS 'the release''s version of the columns and of the fold';
COMMENT ON COLUMN ledger.projection_positions.stopped_at IS 'the event that could not be applied; NULL while it runs';
