-- Delete the messages of a session from the number `at` on, or move them to the session `new_id` if that is not null.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, at bigint, last_seq bigint, new_id text
-- Rows: how many messages the session has left
-- Races: none: the session must be locked
--
-- `last_seq` is the number of its last message, or more: the index still has those that an earlier step has removed.
WITH deleted AS (
    DELETE FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id AND seq >= :at AND seq <= :last_seq AND :new_id IS NULL
    RETURNING 1
),
moved AS (
    UPDATE {schema}.messages
    SET session_id = :new_id
    WHERE user_id = :user_id AND session_id = :session_id AND seq >= :at AND seq <= :last_seq AND :new_id IS NOT NULL
    RETURNING 1
)
UPDATE {schema}.sessions AS s
SET
    next_seq = :at,
    removed = s.removed + (SELECT count(*) FROM deleted) + (SELECT count(*) FROM moved) + :at - s.next_seq,
    updated_at = greatest(s.updated_at, now()),
    listed_at = greatest(s.listed_at, date_trunc('minute', now()))
WHERE s.user_id = :user_id AND s.id = :session_id
RETURNING s.next_seq - 1 - s.removed
