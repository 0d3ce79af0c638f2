-- `scim-ledger repair states` is on record like every repair. A process of the release before neither uses nor notices it.
ALTER TABLE ledger.repairs DROP CONSTRAINT repairs_kind_check;
ALTER TABLE ledger.repairs ADD CONSTRAINT repairs_kind_check CHECK (kind IN ('ledger-time', 'pepper', 'states'));
