-- List the namespaces of a user's documents that have not expired: a page of those from one on.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, first text, until text, limit bigint
-- Rows: namespace, in the order of its bytes
-- Races: none, since it only reads
--
-- Each step looks up the least namespace after the last one in the index, and reads no other document.
WITH RECURSIVE found AS (
    (
        SELECT m.namespace COLLATE "C" AS namespace, 1 AS position
        FROM {schema}.memories AS m
        WHERE m.user_id = :user_id AND m.kind = 'document' AND m.id = m.session_id
            AND m.namespace COLLATE "C" >= :first AND m.namespace COLLATE "C" < :until
            AND (m.valid_until IS NULL OR m.valid_until > now())
        ORDER BY m.namespace COLLATE "C"
        LIMIT 1
    )
    UNION ALL
    SELECT following.namespace, found.position + 1 AS position
    FROM found
    CROSS JOIN
        LATERAL (
            SELECT m.namespace COLLATE "C" AS namespace
            FROM {schema}.memories AS m
            WHERE m.user_id = :user_id AND m.kind = 'document' AND m.id = m.session_id
                AND m.namespace COLLATE "C" > found.namespace AND m.namespace COLLATE "C" < :until
                AND (m.valid_until IS NULL OR m.valid_until > now())
            ORDER BY m.namespace COLLATE "C"
            LIMIT 1
        ) AS following
    WHERE found.position < :limit
)
SELECT namespace
FROM found
ORDER BY namespace
LIMIT :limit
