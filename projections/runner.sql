-- What the runner does beside the views.

-- name: forget_commands
-- Commands are remembered for 24 hours of ledger time; one more is for clocks. In batches, so that
-- no lock is held for long.
-- Returns: nothing; the count of rows is the number forgotten.
-- Order: the oldest first.
-- Locks: the rows that it deletes.
-- Index: commands_at, commands_pkey; events_notification_id, one entry.
DELETE FROM ledger.commands WHERE command_id IN (
    SELECT command_id FROM ledger.commands
    WHERE at < (SELECT at FROM ledger.events ORDER BY notification_id DESC LIMIT 1)
        - interval '25 hours'
    ORDER BY at LIMIT 5000
);
