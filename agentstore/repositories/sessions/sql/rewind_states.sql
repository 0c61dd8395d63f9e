-- Delete the state rounds of a session that were saved since a time.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, state_session text, since timestamptz
-- Rows: the highest round that is left, or 0
-- Races: none: the row of the states must be locked
WITH deleted AS (
    DELETE FROM {schema}.state_rounds
    WHERE user_id = :user_id AND session_id = :state_session AND saved_at >= :since
    RETURNING 1
)
UPDATE {schema}.state_heads
SET
    last_round = coalesce(
        (
            SELECT max(r.round) FROM {schema}.state_rounds AS r
            WHERE r.user_id = :user_id AND r.session_id = :state_session AND r.saved_at < :since
        ),
        0
    )
WHERE user_id = :user_id AND session_id = :state_session
RETURNING last_round
