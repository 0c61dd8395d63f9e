-- Delete the messages of a session from the number `at` on.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, at bigint
-- Rows: how many messages the session has left
-- Races: none: the session must be locked
WITH deleted AS (
    DELETE FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id AND seq >= :at
    RETURNING 1
)
UPDATE {schema}.sessions AS s
SET
    next_seq = :at,
    removed = s.removed + (SELECT count(*) FROM deleted) + :at - s.next_seq,
    updated_at = greatest(s.updated_at, now()),
    listed_at = greatest(s.listed_at, date_trunc('minute', now()))
WHERE s.user_id = :user_id AND s.id = :session_id
RETURNING s.next_seq - 1 - s.removed
