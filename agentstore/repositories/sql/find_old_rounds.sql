-- Find the sessions of a range of users that have old rounds of states: a page of their keys.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, keep bigint, from_user text, from_session text, limit bigint
-- Rows: user_id, session_id, updated_at (of the last save); by user and session. Of each session the last `keep` rounds
--   are retained, and at least the highest.
-- Races: none, since it only reads
SELECT head.user_id, head.session_id, head.updated_at
FROM {schema}.state_heads AS head
JOIN LATERAL (
    -- The first round that is retained.
    SELECT round
    FROM {schema}.state_rounds
    WHERE user_id = head.user_id AND session_id = head.session_id
    ORDER BY round DESC
    LIMIT 1 OFFSET greatest(:keep, 1) - 1
) AS boundary ON TRUE
WHERE head.user_id <= :last_user AND (head.user_id, head.session_id) >= (:from_user, :from_session)
    AND EXISTS (
        SELECT FROM {schema}.state_rounds
        WHERE user_id = head.user_id AND session_id = head.session_id AND round < boundary.round AND saved_at < :before
    )
ORDER BY head.user_id, head.session_id
LIMIT :limit
