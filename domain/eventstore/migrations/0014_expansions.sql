-- A release that is taken back starts on the schema of the one after it, where each later migration only adds: from here
-- on a migration is written down with whether it does (it has no line `-- contract:`). Of those so far nobody asks. The
-- release before does not read the column, and refuses to start on any later schema.
ALTER TABLE ledger.migrations ADD COLUMN is_expansion boolean NOT NULL DEFAULT false;
