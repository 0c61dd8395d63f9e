-- Delete all rounds of a session, then the head.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text
-- Rows: one, the number of rounds deleted
-- Races: none in a transaction that has locked the head
WITH deleted AS (
    DELETE FROM {schema}.state_rounds
    WHERE user_id = :user_id AND session_id = :session_id
    RETURNING round
),
counted AS (
    SELECT count(*) AS count FROM deleted
),
deleted_head AS (
    -- Depends on the count, so that the rounds are deleted first.
    DELETE FROM {schema}.state_heads
    USING counted
    WHERE user_id = :user_id AND session_id = :session_id AND counted.count >= 0
    RETURNING session_id
)
SELECT count FROM counted
