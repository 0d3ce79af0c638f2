-- Ledger time: the caller's clock, but never before the last event, and never away from the database's clock.
-- Every append asks under the lock, every look-up of a caller without it: a process whose clock is wrong is
-- refused before it can move ledger time for everybody, or judge a token by it.
-- Two seconds are for clocks that are kept by NTP. One more is for a clock that was read before its process
-- waited for the append lock (800 ms at most).
CREATE OR REPLACE FUNCTION ledger.is_believed(clock timestamptz) RETURNS boolean LANGUAGE sql
    AS $$ SELECT clock BETWEEN clock_timestamp() - interval '3 seconds' AND clock_timestamp() + interval '2 seconds' $$;

CREATE OR REPLACE FUNCTION ledger.ledger_time(clock timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET enable_seqscan = off  -- the plan is made once, perhaps while the ledger is empty
AS $$
DECLARE
    ahead interval := clock - clock_timestamp();
BEGIN
    IF NOT ledger.is_believed(clock) THEN
        RAISE EXCEPTION USING ERRCODE = 'SL001', MESSAGE = format(
            'the clock of this process is %s s %s that of the database',
            round(abs(extract(epoch FROM ahead)), 1), CASE WHEN ahead > interval '0' THEN 'ahead of' ELSE 'behind' END
        );
    END IF;
    RETURN greatest(clock, (SELECT at FROM ledger.events ORDER BY notification_id DESC LIMIT 1));
END $$;
