-- Find the sessions that have a ttl of their own and have expired: a page of them, across all users.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: from_user text, from_session text, limit bigint
-- Rows: user_id, id, rows (the number of messages); by user and id
-- Races: none, since it only reads
--
-- They are few, and have an index.
SELECT user_id, id, next_seq - 1 AS rows
FROM {schema}.sessions
WHERE ttl IS NOT NULL AND (user_id, id) >= (:from_user, :from_session)
    AND NOT coalesce(now() - updated_at < ttl * interval '1 second', TRUE)
ORDER BY user_id, id
LIMIT :limit
