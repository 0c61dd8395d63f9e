-- Find heads of states of a range of users that have expired, or were written before a time: a page of their keys.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, from_user text, from_session text, limit bigint
-- Rows: user_id, id, rows (the number of state rounds, about), updated_at (by which they are ranked), has_expired,
--   has_session; by user and id
-- Races: none, since it only reads
SELECT
    r.user_id, r.session_id AS id, r.last_round AS rows, r.updated_at,
    (now() - r.updated_at >= {settings.state_ttl}::bigint * interval '1 second') IS TRUE AS has_expired,
    -- A count, which is an index lookup for each row: EXISTS may become a scan of all sessions.
    (SELECT count(*) FROM {schema}.sessions AS s WHERE s.user_id = r.user_id AND s.id = r.session_id) > 0 AS has_session
FROM {schema}.state_heads AS r
WHERE r.user_id <= :last_user AND (r.user_id, r.session_id) >= (:from_user, :from_session)
    AND (
        r.updated_at < :before
        OR (now() - r.updated_at >= {settings.state_ttl}::bigint * interval '1 second') IS TRUE
    )
ORDER BY r.user_id, r.session_id
LIMIT :limit
