-- Find the old stored workspaces of a range of users: a page of their keys and sizes.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, keep bigint, from_user text, from_session text, from_type text,
--   limit bigint
-- Rows: user_id, session_id, type, size; by the first three. With `keep`, those of existing sessions are retained.
-- Races: none, since it only reads
SELECT w.user_id, w.session_id, w.type, w.size
FROM {schema}.workspaces AS w
WHERE w.user_id <= :last_user AND (w.user_id, w.session_id, w.type) >= (:from_user, :from_session, :from_type)
    AND w.saved_at < :before
    -- A count, which is an index lookup for each row: NOT EXISTS may become a scan of all sessions.
    AND (
        :keep = 0
        OR (SELECT count(*) FROM {schema}.sessions AS s WHERE s.user_id = w.user_id AND s.id = w.session_id) = 0
    )
ORDER BY w.user_id, w.session_id, w.type
LIMIT :limit
