-- Find the old stored workspaces of a range of users: a page of their keys and sizes.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, from_user text, from_session text, from_type text, limit bigint
-- Rows: user_id, session_id, type, size, has_session; by the first three
-- Races: none, since it only reads
SELECT
    w.user_id, w.session_id, w.type, w.size,
    -- A count, which is an index lookup for each row: EXISTS may become a scan of all sessions.
    (SELECT count(*) FROM {schema}.sessions AS s WHERE s.user_id = w.user_id AND s.id = w.session_id) > 0 AS has_session
FROM {schema}.workspaces AS w
WHERE w.user_id <= :last_user AND (w.user_id, w.session_id, w.type) >= (:from_user, :from_session, :from_type)
    AND w.saved_at < :before
ORDER BY w.user_id, w.session_id, w.type
LIMIT :limit
