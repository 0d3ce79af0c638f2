-- Ledger time is the database's clock, never before the last event; the clock of whoever asks is judged by it, as before.
-- It was that clock itself: a command that was refused because a token had ended leaves no event, and one that was
-- decided after it by a clock that is behind, or had been read before, took the end away. So the token came back.
-- A process of the release before asks the same functions, and gets the same instants.

-- Whole milliseconds, as events are stored. Only a test that lives by a clock of its own replaces it.
CREATE OR REPLACE FUNCTION ledger.instant(clock timestamptz) RETURNS timestamptz LANGUAGE sql
    AS $$ SELECT date_trunc('milliseconds', clock_timestamp()) $$;

CREATE OR REPLACE FUNCTION ledger.ledger_time(clock timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
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
    RETURN greatest(ledger.instant(clock), (SELECT at FROM ledger.events ORDER BY notification_id DESC LIMIT 1));
END $$;

-- A use by a process whose clock is ahead began, by that clock, after it was recorded: it began then at the latest.
CREATE OR REPLACE FUNCTION ledger.begun_by(state bytea, latest timestamptz) RETURNS bytea LANGUAGE sql STABLE
    AS $$
    SELECT CASE WHEN substring(said FROM '"first_at":"([^"]*)"')::timestamptz <= latest THEN state
        ELSE convert_to(regexp_replace(said, '"first_at":"[^"]*"', format(
            '"first_at":"%s"', to_char(latest AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
        )), 'UTF8') END
    FROM convert_from(state, 'UTF8') AS said
$$;

CREATE OR REPLACE FUNCTION ledger.record_uses(clock timestamp with time zone, digests bytea[], use_ids uuid[], counts integer[], states bytea[]) RETURNS TABLE(ordinal integer, token_id uuid, team_id uuid, is_good boolean, used_at timestamp with time zone, is_void boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_memoize TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    asked_at timestamptz;
    ledger_at timestamptz;
    answered int;
BEGIN
    -- What lock_appends and ledger_time do, but in place: to call them took a fifth of a hot use. They are called
    -- where they would refuse, and say why.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM ledger.lock_appends();
    END IF;
    IF NOT pg_try_advisory_xact_lock(7239075814) THEN
        asked_at := clock_timestamp();
        PERFORM pg_advisory_xact_lock(7239075814);
        PERFORM set_config('scim_ledger.lock_wait_us',
            (extract(epoch FROM clock_timestamp() - asked_at) * 1000000)::bigint::text, true);
    END IF;
    IF NOT ledger.is_believed(clock) THEN
        PERFORM ledger.ledger_time(clock);
    END IF;
    SELECT greatest(ledger.instant(clock), (SELECT at FROM ledger.events ORDER BY notification_id DESC LIMIT 1)) INTO ledger_at;
    IF clock > ledger_at THEN
        states := ARRAY(
            SELECT ledger.begun_by(given, ledger_at) FROM unnest(states) WITH ORDINALITY AS s (given, place) ORDER BY place
        );
    END IF;
    RETURN QUERY
    WITH advanced AS (
        UPDATE ledger.stream_heads h
        SET version = h.version + 1, chapter = (h.version + 1) >> 6, last_used_at = ledger_at,
            uses = h.uses + p.uses
        FROM unnest(digests, use_ids, counts, states) WITH ORDINALITY AS p (digest, use_id, uses, state, ord)
        CROSS JOIN LATERAL (
            SELECT s.owner_id, s.shown_as, (
                SELECT ctid FROM ledger.stream_heads WHERE originator_id = s.originator_id
                ORDER BY chapter DESC LIMIT 1
            ) AS place
            FROM ledger.secrets s
            WHERE s.digest = p.digest AND s.owner_id IS NOT NULL AND s.good_until > ledger_at
            OFFSET 0
        ) s
        WHERE h.ctid = s.place
        RETURNING p.ord, h.originator_id, h.version, s.owner_id, p.use_id,
            ledger.named_use(p.state, s.shown_as) AS state
    ), appended AS (
        INSERT INTO ledger.events (originator_id, originator_version, topic, at, command_id, state)
        SELECT originator_id, version, 'scim_token.used.v1', ledger_at, use_id, state FROM advanced
    )
    SELECT ord::int, originator_id, owner_id, true, ledger_at, false FROM advanced;

    GET DIAGNOSTICS answered = ROW_COUNT;
    IF answered = cardinality(digests) THEN
        RETURN;
    END IF;
    -- Under several keys a secret is asked for by as many digests, of which one is stored: they share their use.
    IF answered = (SELECT count(DISTINCT id) FROM unnest(use_ids) AS id) THEN
        RETURN;
    END IF;

    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT p.ord::int AS ordinal, p.use_id, p.uses, ledger.named_use(p.state, s.shown_as) AS state, s.originator_id,
            s.owner_id, h.place, s.good_until > ledger_at AS is_good, s.good_until = '-infinity' AS is_void
        FROM unnest(digests, use_ids, counts, states) WITH ORDINALITY AS p (digest, use_id, uses, state, ord)
        CROSS JOIN LATERAL (SELECT * FROM ledger.secrets WHERE digest = p.digest OFFSET 0) s
        CROSS JOIN LATERAL (
            SELECT ctid AS place, version FROM ledger.stream_heads WHERE originator_id = s.originator_id
            ORDER BY chapter DESC LIMIT 1
        ) h
        WHERE s.owner_id IS NOT NULL AND NOT EXISTS (  -- not answered above: the head's event is another
            SELECT FROM ledger.events e
            WHERE e.originator_id = s.originator_id AND e.originator_version = h.version
                AND e.command_id = p.use_id
        )
    ), good AS MATERIALIZED (
        SELECT k.*, row_number() OVER (PARTITION BY k.originator_id ORDER BY k.ordinal) AS step
        FROM known k WHERE k.is_good
    ), advanced AS (
        UPDATE ledger.stream_heads h
        SET version = h.version + g.steps, chapter = (h.version + g.steps) >> 6, last_used_at = ledger_at,
            uses = h.uses + g.uses
        FROM (SELECT place, count(*) AS steps, sum(uses) AS uses FROM good GROUP BY place) g
        WHERE h.ctid = g.place
        RETURNING h.originator_id, h.version - g.steps AS base
    ), appended AS (
        INSERT INTO ledger.events (originator_id, originator_version, topic, at, command_id, state)
        SELECT g.originator_id, a.base + g.step, 'scim_token.used.v1', ledger_at, g.use_id, g.state
        FROM good g JOIN advanced a ON a.originator_id = g.originator_id
        ORDER BY g.ordinal
    )
    SELECT k.ordinal, k.originator_id, k.owner_id, k.is_good, ledger_at, k.is_void FROM known k;
END $$;
