-- What a token did of late, for a `ViewReader` of `usage` and `audit_trail`, which fills in names.

-- name: activity
-- Its days, who presented it in its newest uses, and its newest facts that are no uses.
-- Returns: true; which of the three a row is ('day', 'presenter', 'fact'), and the row as JSON. The
--   statement `days` of the view `usage` stands for {days}.
-- Order: of the last two, the newest first; none between the three.
-- Locks: none.
-- Index: that of `days`; audit_trail's `token` backwards, as many entries as are asked for and the
--   token's rarer facts among them; `rare_token` backwards, as many as are asked for.
SELECT true, told.part, told.row
FROM (
    SELECT 'day' AS part, jsonb_build_object('day', day, 'uses', uses) AS row
    FROM ({days}) AS counted (is_there, token, day, uses)
    UNION ALL
    SELECT 'presenter', to_jsonb(presenter) FROM (
        SELECT door, source, user_agent, sum(count)::bigint AS uses, max(at) AS last_used_at
        FROM (
            SELECT door, source, user_agent, count, at, position FROM {audit_trail}
            WHERE token_id = %(token)s AND kind = 'scim_token.used'
            ORDER BY position DESC LIMIT %(uses)s
        ) newest
        GROUP BY door, source, user_agent
        ORDER BY max(position) DESC LIMIT %(presenters)s
    ) presenter
    UNION ALL
    SELECT 'fact', to_jsonb(fact) FROM (
        SELECT * FROM {audit_trail}
        WHERE token_id = %(token)s AND kind <> 'scim_token.used'
        ORDER BY position DESC LIMIT %(facts)s
    ) fact
) told;
