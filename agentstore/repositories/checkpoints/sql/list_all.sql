-- List checkpoints of all namespaces of a session without their values and writes, the newest first.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, before text, before_namespace text, limit bigint
-- Rows: namespace, id, parent_id, metadata_type, metadata, saved_at
-- Races: none, since it only reads
SELECT c.namespace, c.id, c.parent_id, c.metadata_type, c.metadata, c.saved_at
FROM {schema}.checkpoints AS c
WHERE c.user_id = :user_id AND c.session_id = :session_id AND (c.id, c.namespace) < (:before, :before_namespace)
ORDER BY c.id DESC, c.namespace DESC
LIMIT :limit
