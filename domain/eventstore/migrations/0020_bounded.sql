-- What may be asked of the ledger is bounded. A process of the release before calls the same function and the same
-- statements. Who may call the functions is said by every `migrate` (`domain/postgres/sql/migrate.sql`).

-- As in 0017, but a position beyond all that can ever have been there is refused: no sequence is used up at once, by
-- a damaged head file for instance. A million million events are 79 years of 400 a second.
CREATE OR REPLACE FUNCTION ledger.skip_positions(until bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest bigint;
BEGIN
    PERFORM ledger.lock_appends();
    SELECT coalesce(max(notification_id), 0) INTO newest FROM ledger.events;
    IF until IS NULL OR until > newest + 1000000000000 THEN
        RAISE EXCEPTION USING ERRCODE = 'numeric_value_out_of_range', MESSAGE = format(
            'position %s cannot have been one of this ledger, whose last is %s', until, newest
        );
    END IF;
    PERFORM setval('ledger.events_notification_id_seq', greatest(until, last_value))
    FROM ledger.events_notification_id_seq;
END $$;

-- As in 0010, but what has expired is passed over, however much of it a team has. `good_until` was in the predicate
-- already, so an update of it writes as many indexes as before, and a use, which writes no secret, none. Making it
-- holds up creations and rotations for about a second for each million secrets, and no use. Where that is too long,
-- make it by hand before: CREATE INDEX CONCURRENTLY secrets_good_of_team with the definition below.
CREATE INDEX IF NOT EXISTS secrets_good_of_team ON ledger.secrets (owner_id, good_until)
    WHERE owner_id IS NOT NULL AND good_until > '-infinity';
DROP INDEX IF EXISTS ledger.secrets_live_of_team;
