-- Find the sessions of a range of users whose checkpoints are old: a page of them.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: last_user text, before timestamptz, from_user text, from_session text, limit bigint
-- Rows: user_id, session_id; in this order
-- Races: none, since it only reads
SELECT h.user_id, h.session_id
FROM {schema}.checkpoint_heads AS h
WHERE h.user_id <= :last_user AND (h.user_id, h.session_id) >= (:from_user, :from_session) AND h.updated_at < :before
ORDER BY h.user_id, h.session_id
LIMIT :limit
