-- Find the sessions of a range of users with old versions of blobs: a page of them.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, from_user text, from_session text, limit bigint
-- Rows: user_id, session_id, versions, bytes; by the first two
-- Races: none, since it only reads
SELECT b.user_id, b.session_id, count(*) AS versions, sum(b.size)::bigint AS bytes
FROM {schema}.blobs AS b
WHERE b.user_id <= :last_user AND (b.user_id, b.session_id) >= (:from_user, :from_session) AND b.saved_at < :before
GROUP BY b.user_id, b.session_id
ORDER BY b.user_id, b.session_id
LIMIT :limit
