-- Delete a session with at most `most` messages.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, most bigint
-- Rows: one: how many messages it had, and whether it is deleted; none if it does not exist
-- Races: a session that is changed or deleted after this statement's snapshot may be reported as not deleted
--
-- The foreign key deletes the messages. The counter says how many: no append can change it while the row is locked.
WITH deleted AS (
    DELETE FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id AND next_seq - 1 - removed <= :most
    RETURNING next_seq - 1 - removed AS messages
)
SELECT messages, TRUE AS is_deleted FROM deleted
UNION ALL
SELECT next_seq - 1 - removed, FALSE
FROM {schema}.sessions
WHERE user_id = :user_id AND id = :session_id AND NOT EXISTS (SELECT FROM deleted)
