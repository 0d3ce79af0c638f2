-- As in 0015, but a row also follows a state whose creation moves: `scim-ledger repair ledger-time` sets instants right.
CREATE OR REPLACE FUNCTION ledger.keep_api_token() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO ledger.api_tokens AS known SELECT * FROM ledger.api_token_row(NEW.originator_id, NEW.state)
    ON CONFLICT (originator_id) DO UPDATE SET created_at = excluded.created_at, good_until = excluded.good_until
    WHERE (known.created_at, known.good_until) <> (excluded.created_at, excluded.good_until);
    RETURN NULL;
END $$;
