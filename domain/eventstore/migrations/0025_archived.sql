-- Old uses and refusals may leave the ledger once they stand in files. A host that was away for long may have known one
-- of them as the newest event. A process of the release before asks the same function; of what the archive is it knows
-- nothing, and its views are of what the ledger still has.

-- As in 0017, and an event that is not there is taken for one that has left the ledger where the archive reaches so far:
-- a state from before it was recorded has no such archive.
CREATE OR REPLACE FUNCTION ledger.require_known(
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
    IF found.notification_id IS NULL AND known_position <= (
        SELECT (convert_from(state, 'UTF8')::jsonb ->> 'until')::bigint FROM ledger.events
        WHERE originator_id = '052a60ae-2392-51d8-831d-2c89b24e0294' ORDER BY originator_version DESC LIMIT 1
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
