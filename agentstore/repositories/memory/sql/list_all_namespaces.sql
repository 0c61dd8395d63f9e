-- List the namespaces of the documents of all users that have not expired: a page of those from one on.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: from_user text, first text, least text, until text, limit bigint
-- Rows: user_id, namespace, in the order of their bytes
-- Races: none, since it only reads
--
-- Each step looks up the least namespace after the last one in the index, and reads no other document. The first one
-- is at least `first` of `from_user`; all are from `least` on and before `until`.
WITH RECURSIVE found AS (
    (
        SELECT m.user_id, m.namespace COLLATE "C" AS namespace, 1 AS position
        FROM {schema}.memories AS m
        WHERE m.kind = 'document' AND m.id = m.session_id
            AND (m.user_id, m.namespace COLLATE "C") >= (:from_user, :first)
            AND m.namespace COLLATE "C" >= :least AND m.namespace COLLATE "C" < :until
            AND (m.valid_until IS NULL OR m.valid_until > now())
        ORDER BY m.user_id, m.namespace COLLATE "C"
        LIMIT 1
    )
    UNION ALL
    SELECT following.user_id, following.namespace, found.position + 1 AS position
    FROM found
    CROSS JOIN
        LATERAL (
            SELECT m.user_id, m.namespace COLLATE "C" AS namespace
            FROM {schema}.memories AS m
            WHERE m.kind = 'document' AND m.id = m.session_id
                AND (m.user_id, m.namespace COLLATE "C") > (found.user_id, found.namespace)
                AND m.namespace COLLATE "C" >= :least AND m.namespace COLLATE "C" < :until
                AND (m.valid_until IS NULL OR m.valid_until > now())
            ORDER BY m.user_id, m.namespace COLLATE "C"
            LIMIT 1
        ) AS following
    WHERE found.position < :limit
)
SELECT user_id, namespace
FROM found
ORDER BY user_id, namespace
LIMIT :limit
