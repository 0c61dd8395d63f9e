-- Find buckets of memories of a range of users that have expired, or were written before a time: a page of their keys.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, from_user text, from_session text, limit bigint
-- Rows: user_id, id, rows (the number of memories), updated_at (by which they are ranked), has_expired; by user and id
-- Races: none, since it only reads
SELECT
    user_id, session_id AS id, count AS rows, updated_at,
    coalesce(now() - updated_at >= {settings.memory_ttl}::bigint * interval '1 second', FALSE) AS has_expired
FROM {schema}.memory_buckets
WHERE user_id <= :last_user AND (user_id, session_id) >= (:from_user, :from_session)
    AND (
        updated_at < :before
        OR coalesce(now() - updated_at >= {settings.memory_ttl}::bigint * interval '1 second', FALSE)
    )
ORDER BY user_id, session_id
LIMIT :limit
