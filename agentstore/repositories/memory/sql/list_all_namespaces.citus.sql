-- List the namespaces of the documents of all users that have not expired: a page of those from one on.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: from_user text, first text, least text, until text, limit bigint
-- Rows: those of list_all_namespaces.sql
-- Races: none, since it only reads
--
-- Citus executes no recursive query about several users: this one reads all documents from the first namespace on.
SELECT DISTINCT m.user_id, m.namespace COLLATE "C" AS namespace
FROM {schema}.memories AS m
WHERE m.kind = 'document' AND m.id = m.session_id
    AND (m.user_id, m.namespace COLLATE "C") >= (:from_user, :first)
    AND m.namespace COLLATE "C" >= :least AND m.namespace COLLATE "C" < :until
    AND (m.valid_until IS NULL OR m.valid_until > now())
ORDER BY m.user_id, namespace
LIMIT :limit
