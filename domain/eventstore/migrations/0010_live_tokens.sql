-- How many live tokens a team has, where a policy limits their number: found by the team's part of an index.
-- A process of the release before neither uses nor notices it. Making it holds up creations and rotations for as
-- long as it takes, about a second for each million secrets, and no use. Where that is too long, make it by hand
-- before: CREATE INDEX CONCURRENTLY secrets_live_of_team with the definition below.
CREATE INDEX IF NOT EXISTS secrets_live_of_team ON ledger.secrets (owner_id)
    WHERE owner_id IS NOT NULL AND good_until > '-infinity';
