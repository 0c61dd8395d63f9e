-- Find heads of states of a range of users that have expired, or were written before a time: a page of their keys.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, keep bigint, from_user text, from_session text, limit bigint
-- Rows: user_id, id, rows (the number of state rounds, about), has_expired; by user and id
-- Races: none, since it only reads
SELECT
    user_id, session_id AS id, last_round AS rows,
    coalesce(now() - updated_at >= {settings.state_ttl}::bigint * interval '1 second', FALSE) AS has_expired
FROM {schema}.state_heads
WHERE user_id <= :last_user AND (user_id, session_id) >= (:from_user, :from_session)
    AND (
        (updated_at < :before AND :keep = 0)
        OR coalesce(now() - updated_at >= {settings.state_ttl}::bigint * interval '1 second', FALSE)
    )
ORDER BY user_id, session_id
LIMIT :limit
