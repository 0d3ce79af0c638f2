-- Under one snapshot for the whole transaction, what is read after the lock is what was committed before it:
-- uses and revokes of others would be missed, and ledger time could go back. So whoever would append like
-- that, by whatever path, gets no lock.
CREATE OR REPLACE FUNCTION ledger.lock_appends() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction', MESSAGE = format(
            'an append needs the isolation level read committed, not %s', current_setting('transaction_isolation')
        );
    END IF;
    PERFORM pg_advisory_xact_lock(7239075814);
END $$;
