-- Find sessions of a range of users that have expired, or were written before a time: a page of their keys.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, from_user text, from_session text, limit bigint
-- Rows: user_id, id, rows (the number of messages), listed_at, updated_at (by which they are ranked), has_expired; by
--   user and id
-- Races: none, since it only reads
SELECT
    user_id, id, next_seq - 1 AS rows, listed_at, updated_at,
    NOT coalesce(
        now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second', TRUE
    ) AS has_expired
FROM {schema}.sessions
WHERE user_id <= :last_user AND (user_id, id) >= (:from_user, :from_session)
    AND (
        updated_at < :before
        OR NOT coalesce(now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second', TRUE)
    )
ORDER BY user_id, id
LIMIT :limit
