-- A role may have been told to fire no ordinary triggers (`session_replication_role`), and then the list of API tokens missed what
-- its sessions stored. A process of the release before notices nothing of either statement.

-- What was missed until now, before the table of states is locked.
INSERT INTO ledger.api_tokens AS known
SELECT said.*
FROM ledger.aggregates a CROSS JOIN LATERAL ledger.api_token_row(a.originator_id, a.state) AS said
WHERE a.kind = 'api_token'
ON CONFLICT (originator_id) DO UPDATE SET good_until = excluded.good_until
WHERE known.good_until <> excluded.good_until;

-- From now on the trigger fires for everybody.
ALTER TABLE ledger.aggregates ENABLE ALWAYS TRIGGER keep_api_token;
