-- A restore of an older state is noticed: a host knows an event that the ledger had (its head file), and asks for it
-- with each connection. Nothing of the release before reads or calls these functions.

-- Refuse a ledger without an event that somebody has seen committed, unless its loss was declared: by the very event,
-- or as one of a declared stretch in which no event stands. NULL asks for nothing.
CREATE FUNCTION ledger.require_known(
    known_position bigint, known_stream uuid, known_version bigint, known_command uuid
) RETURNS void LANGUAGE plpgsql STABLE STRICT SET enable_seqscan = off AS $$
DECLARE
    found ledger.events;
    newest ledger.events;
BEGIN
    SELECT * INTO found FROM ledger.events WHERE notification_id = known_position;
    IF (found.originator_id, found.originator_version, found.command_id)
        IS NOT DISTINCT FROM (known_stream, known_version, known_command)
    THEN
        RETURN;
    END IF;
    IF EXISTS (
        SELECT FROM ledger.events e, LATERAL (SELECT convert_from(e.state, 'UTF8')::jsonb) AS decoded (loss)
        WHERE e.originator_id = 'a690d6ba-6c7e-56dc-8dbe-a4db3f0d5985' AND (
            loss -> 'known' = jsonb_build_object(
                'position', known_position, 'originator_id', known_stream,
                'originator_version', known_version, 'command_id', known_command
            ) OR (
                found.notification_id IS NULL
                AND known_position > (loss ->> 'after')::bigint AND known_position <= (loss ->> 'until')::bigint
            )
        )
    ) THEN
        RETURN;
    END IF;
    SELECT * INTO newest FROM ledger.events ORDER BY notification_id DESC LIMIT 1;
    RAISE EXCEPTION USING ERRCODE = 'SL003', MESSAGE = CASE
        WHEN newest.notification_id IS NULL THEN format(
            'the ledger is empty, and this host has known its event %s: it was restored from an older state, or made anew',
            known_position
        )
        WHEN newest.notification_id < known_position THEN format(
            'the ledger ends with event %s of %s, and this host has known event %s: it was restored from an older state',
            newest.notification_id, to_char(newest.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), known_position
        )
        ELSE format(
            'event %s of the ledger is not the one that this host has known: '
            'it was restored from an older state, or is another ledger', known_position
        )
    END;
END $$;

-- No event gets one of these positions any more: what collectors and head files know of them stays true. Forward only.
-- As the owner, since the app role may not move the sequence otherwise.
CREATE FUNCTION ledger.skip_positions(until bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM ledger.lock_appends();
    PERFORM setval('ledger.events_notification_id_seq', greatest(until, last_value))
    FROM ledger.events_notification_id_seq;
END $$;
