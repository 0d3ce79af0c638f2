-- API tokens, by what a list or a revocation asks for; reads, outside of any append. What has ended
-- is left out on the way along an index, without a look at its row; a session ends within hours, so
-- those of yesterday are not met at all.
-- Locks: none.

-- name: newest
-- The good API tokens of whatever teams, behind a place in the order.
-- Returns: state, version, last use, uses; one row each, `limit` at most.
-- Order: newest first, by (created_at, originator_id).
-- Index: api_tokens_created, once for sessions and once for all others; aggregates_pkey,
--   stream_heads_pkey.
SELECT a.state, h.version, h.last_used_at, h.uses
FROM (
    SELECT found.originator_id, found.created_at
    FROM (
        VALUES (false, '-infinity'::timestamptz),
            (true, %(at)s::timestamptz - %(session)s::interval)
    ) AS kind (is_session, since)
    CROSS JOIN LATERAL (
        SELECT t.originator_id, t.created_at FROM ledger.api_tokens t
        WHERE t.is_session = kind.is_session AND t.created_at > kind.since
            AND (t.created_at, t.originator_id) < (
                coalesce(%(after_at)s::timestamptz, 'infinity'), %(after_id)s::uuid
            )
            AND t.good_until > %(at)s::timestamptz
        ORDER BY t.created_at DESC, t.originator_id DESC LIMIT %(limit)s::int
    ) AS found
    ORDER BY found.created_at DESC, found.originator_id DESC LIMIT %(limit)s::int
) AS page
JOIN ledger.aggregates a ON a.originator_id = page.originator_id
JOIN ledger.stream_heads h ON h.originator_id = page.originator_id
ORDER BY page.created_at DESC, page.originator_id DESC;

-- name: newest_of_teams
-- As `newest`, of some teams: those that are for these and no other. The first team of each is one
-- of them; what is for others besides is compared on the way.
-- Returns: state, version, last use, uses; one row each, `limit` at most.
-- Order: newest first, by (created_at, originator_id).
-- Index: api_tokens_of_team, once a team for sessions and once for all others; aggregates_pkey,
--   stream_heads_pkey.
SELECT a.state, h.version, h.last_used_at, h.uses
FROM (
    SELECT found.originator_id, found.created_at
    FROM unnest(%(teams)s::uuid[]) AS mine (team)
    CROSS JOIN (
        VALUES (false, '-infinity'::timestamptz),
            (true, %(at)s::timestamptz - %(session)s::interval)
    ) AS kind (is_session, since)
    CROSS JOIN LATERAL (
        SELECT walked.originator_id, walked.created_at FROM (
            SELECT t.originator_id, t.created_at, t.teams FROM ledger.api_tokens t
            WHERE t.teams IS NOT NULL AND t.teams[1] = mine.team
                AND t.is_session = kind.is_session AND t.created_at > kind.since
                AND (t.created_at, t.originator_id) < (
                    coalesce(%(after_at)s::timestamptz, 'infinity'), %(after_id)s::uuid
                )
                AND t.good_until > %(at)s::timestamptz
            ORDER BY t.created_at DESC, t.originator_id DESC OFFSET 0
        ) AS walked
        WHERE walked.teams <@ %(teams)s::uuid[]
        ORDER BY walked.created_at DESC, walked.originator_id DESC LIMIT %(limit)s::int
    ) AS found
    ORDER BY found.created_at DESC, found.originator_id DESC LIMIT %(limit)s::int
) AS page
JOIN ledger.aggregates a ON a.originator_id = page.originator_id
JOIN ledger.stream_heads h ON h.originator_id = page.originator_id
ORDER BY page.created_at DESC, page.originator_id DESC;

-- name: oldest
-- Every API token behind a place in the order, whatever became of it.
-- Returns: state, version, last use, uses; one row each, `limit` at most.
-- Order: oldest first, by (created_at, originator_id).
-- Index: api_tokens_created, once for sessions and once for all others; aggregates_pkey,
--   stream_heads_pkey.
SELECT a.state, h.version, h.last_used_at, h.uses
FROM (
    SELECT found.originator_id, found.created_at
    FROM (VALUES (false), (true)) AS kind (is_session)
    CROSS JOIN LATERAL (
        SELECT t.originator_id, t.created_at FROM ledger.api_tokens t
        WHERE t.is_session = kind.is_session AND (t.created_at, t.originator_id) > (
            coalesce(%(after_at)s::timestamptz, '-infinity'), %(after_id)s::uuid
        )
        ORDER BY t.created_at, t.originator_id LIMIT %(limit)s::int
    ) AS found
    ORDER BY found.created_at, found.originator_id LIMIT %(limit)s::int
) AS page
JOIN ledger.aggregates a ON a.originator_id = page.originator_id
JOIN ledger.stream_heads h ON h.originator_id = page.originator_id
ORDER BY page.created_at, page.originator_id;

-- name: live_sessions
-- The sessions that API tokens opened, and that are not over.
-- Returns: one id each, `limit` at most.
-- Order: none.
-- Index: api_tokens_sessions.
SELECT originator_id FROM ledger.api_tokens
WHERE session_of = ANY(%(ids)s::uuid[]) AND good_until > %(at)s::timestamptz LIMIT %(limit)s::int;

-- name: other_managers
-- A few that manage API tokens wherever one does, beside that one.
-- Returns: one id each, four at most.
-- Order: those of all teams first, and of each kind who has the longest to live.
-- Index: api_tokens_managers, backwards; api_tokens_pkey.
SELECT other.originator_id
FROM (
    SELECT m.originator_id, m.teams FROM ledger.api_tokens m
    WHERE m.manages AND m.good_until > %(at)s::timestamptz
    ORDER BY m.teams IS NULL DESC, m.good_until DESC OFFSET 0
) AS other
WHERE other.originator_id <> %(id)s::uuid AND (
    other.teams IS NULL
    OR other.teams @> (SELECT teams FROM ledger.api_tokens WHERE originator_id = %(id)s::uuid)
)
LIMIT 4;
