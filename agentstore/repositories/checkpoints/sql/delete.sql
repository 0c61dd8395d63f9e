-- Delete all checkpoints of a session.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text
-- Rows: one: the number of checkpoints, unless the session has none
-- Races: none: the head must be locked. What is stored meanwhile waits for it, and is stored in a new one.
WITH counted AS MATERIALIZED (
    SELECT count(*) AS checkpoints
    FROM {schema}.checkpoints AS c
    WHERE c.user_id = :user_id AND c.session_id = :session_id
),
deleted AS (
    DELETE FROM {schema}.checkpoint_heads AS h
    USING counted
    WHERE h.user_id = :user_id AND h.session_id = :session_id
    RETURNING h.session_id
)
SELECT counted.checkpoints
FROM counted, deleted
