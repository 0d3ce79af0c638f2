-- What an owner has changed in the ledger by a command of ours, why, and how it was before. The ledger's events
-- never change in silence: whoever reads them can tell which were set right, when, by whom, and from what.
-- The app role may only read it.
CREATE TABLE ledger.repairs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('ledger-time', 'pepper')),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL,
    reason text NOT NULL
);
COMMENT ON COLUMN ledger.repairs.by IS 'user and host of the command, and the database role';
CREATE TABLE ledger.repaired_events (
    notification_id bigint NOT NULL,
    repair_id bigint NOT NULL REFERENCES ledger.repairs,
    topic text NOT NULL,
    at timestamptz NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (notification_id, repair_id)
);
COMMENT ON TABLE ledger.repaired_events IS 'topic, at and state of an event as they were before the repair';
