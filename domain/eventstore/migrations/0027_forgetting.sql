-- What repairs there are: addresses, and what programs call themselves, can be taken out of events. The release before
-- reads such events as any others.
ALTER TABLE ledger.repairs DROP CONSTRAINT repairs_kind_check;
ALTER TABLE ledger.repairs ADD CONSTRAINT repairs_kind_check CHECK (kind IN ('forgetting', 'ledger-time', 'pepper', 'states'));
