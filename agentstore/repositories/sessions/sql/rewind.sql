-- Delete the messages of a session after the position `at`, and the state rounds saved since the first was stored.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, state_session text, at bigint
-- Rows: next_seq
-- Races: none: the rows of the session and of its states must be locked
WITH first AS (
    -- The first message to delete.
    SELECT created_at FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id AND seq > :at
    ORDER BY seq
    LIMIT 1
),
deleted_messages AS (
    DELETE FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id AND seq > :at
    RETURNING 1
),
deleted_rounds AS (
    DELETE FROM {schema}.state_rounds
    WHERE user_id = :user_id AND session_id = :state_session AND saved_at >= (SELECT created_at FROM first)
    RETURNING 1
),
head AS (
    UPDATE {schema}.state_heads
    SET
        last_round = coalesce(
            (
                SELECT max(r.round) FROM {schema}.state_rounds AS r
                WHERE r.user_id = :user_id AND r.session_id = :state_session
                    AND r.saved_at < (SELECT created_at FROM first)
            ),
            0
        )
    WHERE user_id = :user_id AND session_id = :state_session AND EXISTS (SELECT FROM first)
    RETURNING 1
)
UPDATE {schema}.sessions
SET
    next_seq = :at + 1,
    removed = CASE
        WHEN removed = 0 THEN 0
        ELSE :at - (
                SELECT count(*) FROM {schema}.messages
                WHERE user_id = :user_id AND session_id = :session_id AND seq <= :at
            )
    END,
    updated_at = greatest(updated_at, now()),
    listed_at = greatest(listed_at, date_trunc('minute', now()))
WHERE user_id = :user_id AND id = :session_id
    AND coalesce(now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second', TRUE)
RETURNING next_seq
