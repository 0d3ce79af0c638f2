-- Which API tokens there are, by what a list, a sign-in or a revocation asks for: each sign-in to the console makes one,
-- and so they are many. A row says what the state says, and a trigger writes it with the state, so that a process of the
-- release before, which knows nothing of it, keeps it as well. No use touches it.
CREATE TABLE ledger.api_tokens (
    originator_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    good_until timestamptz NOT NULL,
    teams uuid[],
    manages boolean NOT NULL,
    is_session boolean NOT NULL,
    session_of uuid
);
COMMENT ON COLUMN ledger.api_tokens.good_until IS 'as that of a secret: infinity without an end, -infinity once revoked';
COMMENT ON COLUMN ledger.api_tokens.teams IS 'in their order, each once; NULL for all';
COMMENT ON COLUMN ledger.api_tokens.manages IS 'whether it may manage API tokens, and is no session';

CREATE INDEX api_tokens_created ON ledger.api_tokens (is_session, created_at, originator_id, good_until);
CREATE INDEX api_tokens_of_team ON ledger.api_tokens ((teams[1]), is_session, created_at, originator_id, good_until)
    WHERE teams IS NOT NULL;
CREATE INDEX api_tokens_sessions ON ledger.api_tokens (session_of, good_until) WHERE session_of IS NOT NULL;
CREATE INDEX api_tokens_managers ON ledger.api_tokens ((teams IS NULL), good_until) WHERE manages;

-- Returns one row. As a set, for a statement that it stands in is planned with it.
CREATE FUNCTION ledger.api_token_row(id uuid, state bytea) RETURNS SETOF ledger.api_tokens
LANGUAGE sql STABLE
AS $$
    SELECT
        id,
        (s ->> 'created_at')::timestamptz,
        CASE WHEN s ->> 'revoked_at' IS NULL THEN coalesce((s ->> 'expires_at')::timestamptz, 'infinity') ELSE '-infinity' END,
        CASE jsonb_typeof(s -> 'teams') WHEN 'array' THEN
            ARRAY(SELECT DISTINCT team::uuid FROM jsonb_array_elements_text(s -> 'teams') AS team ORDER BY 1) END,
        (s -> 'permissions') ? 'api_tokens:manage' AND s ->> 'session_of' IS NULL,
        s ->> 'session_of' IS NOT NULL,
        (s ->> 'session_of')::uuid
    FROM (SELECT convert_from(state, 'UTF8')::jsonb OFFSET 0) AS decoded (s)
$$;

CREATE FUNCTION ledger.keep_api_token() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO ledger.api_tokens AS known SELECT * FROM ledger.api_token_row(NEW.originator_id, NEW.state)
    ON CONFLICT (originator_id) DO UPDATE SET good_until = excluded.good_until
    WHERE known.good_until <> excluded.good_until;
    RETURN NULL;
END $$;

-- Those that are there are read before the lock on the table of states is taken, and what changed meanwhile after it.
DO $$
DECLARE
    seen bigint := coalesce((SELECT max(notification_id) FROM ledger.events), 0);
BEGIN
    INSERT INTO ledger.api_tokens
    SELECT said.* FROM ledger.aggregates a CROSS JOIN LATERAL ledger.api_token_row(a.originator_id, a.state) AS said
    WHERE a.kind = 'api_token';
    CREATE TRIGGER keep_api_token AFTER INSERT OR UPDATE OF state ON ledger.aggregates
        FOR EACH ROW WHEN (NEW.kind = 'api_token') EXECUTE FUNCTION ledger.keep_api_token();
    INSERT INTO ledger.api_tokens AS known
    SELECT said.*
    FROM (
        SELECT DISTINCT originator_id FROM ledger.events WHERE notification_id > seen AND topic ^@ 'api_token.'
    ) AS later
    JOIN ledger.aggregates a ON a.originator_id = later.originator_id AND a.kind = 'api_token'
    CROSS JOIN LATERAL ledger.api_token_row(a.originator_id, a.state) AS said
    ON CONFLICT (originator_id) DO UPDATE SET good_until = excluded.good_until;
END $$;
