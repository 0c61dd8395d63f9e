-- List checkpoints of a namespace without their values and writes, the newest first.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, namespace text, before text, limit bigint
-- Rows: namespace, id, parent_id, metadata_type, metadata, saved_at
-- Races: none, since it only reads
SELECT c.namespace, c.id, c.parent_id, c.metadata_type, c.metadata, c.saved_at
FROM {schema}.checkpoints AS c
WHERE c.user_id = :user_id AND c.session_id = :session_id AND c.namespace = :namespace AND c.id < :before
ORDER BY c.id DESC
LIMIT :limit
