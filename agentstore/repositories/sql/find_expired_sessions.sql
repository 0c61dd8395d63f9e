-- Find the sessions that have a ttl of their own and have expired: a page of them, across all users.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: from_user text, from_session text, limit bigint
-- Rows: user_id, id, rows (the number of its messages and states, about); by user and id
-- Races: none, since it only reads
--
-- They are few, and have an index.
SELECT
    s.user_id, s.id,
    s.next_seq - 1
    -- The number of a round may be any, and the sum must not overflow.
    + coalesce(
        (
            SELECT least(h.last_round, 1000000)
            FROM {schema}.state_heads AS h
            WHERE h.user_id = s.user_id AND h.session_id = s.id
        ), 0
    ) AS rows
FROM {schema}.sessions AS s
WHERE s.ttl IS NOT NULL AND (s.user_id, s.id) >= (:from_user, :from_session)
    AND (now() - s.updated_at < s.ttl * interval '1 second') IS FALSE
ORDER BY s.user_id, s.id
LIMIT :limit
