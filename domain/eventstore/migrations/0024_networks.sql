-- A token may be good from certain networks alone. Each decision leaves them on the rows of its secrets, as it leaves
-- their ends, and the statement that records uses compares: the address stands in the use that it is given, so a process
-- of the release before, which calls the same function, lets in nobody from elsewhere either. It tells another reason.
ALTER TABLE ledger.secrets ADD COLUMN networks inet[];
COMMENT ON COLUMN ledger.secrets.networks IS 'from which alone the secret is good; NULL where it is from anywhere';

-- Whether a use came from one of the networks; one whose address is not known came from none.
CREATE FUNCTION ledger.is_from(state bytea, networks inet[]) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce((convert_from(state, 'UTF8')::json -> 'presentation' ->> 'source')::inet <<= ANY (networks), false)
$$;

-- The release before does not know of the networks: its command on such a token stores a state without them, and the
-- row of a new secret says none. It cannot have decided anything about them, so they stay as they were: at the end of
-- its statement they stand in the state again, in the bytes of this release (they are its last field), and on the rows
-- of the secrets that this state has brought. This release always says which networks there are, or that there are none.
CREATE FUNCTION ledger.keep_networks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kept CONSTANT bytea := substring(OLD.state FROM position('"networks":['::bytea IN OLD.state));
BEGIN
    UPDATE ledger.aggregates
    SET state = substring(NEW.state FOR octet_length(NEW.state) - 1) || ','::bytea || kept
    WHERE originator_id = NEW.originator_id;
    UPDATE ledger.secrets
    SET networks = ARRAY(SELECT json_array_elements_text(convert_from('{'::bytea || kept, 'UTF8')::json -> 'networks'))::inet[]
    WHERE originator_id = NEW.originator_id AND networks IS NULL
        AND position(encode(digest, 'base64')::bytea IN NEW.state) > 0
        AND position(encode(digest, 'base64')::bytea IN OLD.state) = 0;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_networks AFTER UPDATE OF state ON ledger.aggregates FOR EACH ROW
WHEN (
    NEW.kind = 'scim_token' AND position('"networks":["'::bytea IN OLD.state) > 0
    AND position('"networks":['::bytea IN NEW.state) = 0
)
EXECUTE FUNCTION ledger.keep_networks();
ALTER TABLE ledger.aggregates ENABLE ALWAYS TRIGGER keep_networks;

-- As in 0023, but for the networks.
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
                AND CASE WHEN s.networks IS NULL THEN true ELSE ledger.is_from(p.state, s.networks) END
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
            s.owner_id, h.place, s.good_until > ledger_at
                AND CASE WHEN s.networks IS NULL THEN true ELSE ledger.is_from(p.state, s.networks) END AS is_good,
            s.good_until = '-infinity' AS is_void
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
