-- Delete a round of a session; if it was the last one, the highest below it becomes the last.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, round_id bigint
-- Rows: one, the number of rounds deleted
-- Races: none in a transaction that has locked the head
WITH deleted AS (
    DELETE FROM {schema}.state_rounds
    WHERE user_id = :user_id AND session_id = :session_id AND round = :round_id
    RETURNING round
),
head AS (
    UPDATE {schema}.state_heads
    SET
        last_round = coalesce(
            (
                SELECT round
                FROM {schema}.state_rounds
                WHERE user_id = :user_id AND session_id = :session_id AND round < :round_id
                ORDER BY round DESC
                LIMIT 1
            ),
            0
        )
    FROM deleted
    WHERE user_id = :user_id AND session_id = :session_id AND last_round = deleted.round
    RETURNING last_round
)
SELECT count(*) AS count FROM deleted
