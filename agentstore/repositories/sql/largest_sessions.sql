-- Read the sessions with the most messages, and the bytes of these.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: limit bigint
-- Rows: user_id, id, number of messages, bytes of their payloads as stored, updated_at; the largest first
-- Races: none, since it only reads
WITH largest AS (
    SELECT user_id, id, next_seq - 1 - removed AS messages, updated_at
    FROM {schema}.sessions
    ORDER BY messages DESC, user_id, id
    LIMIT :limit
)
SELECT
    user_id, id, messages,
    (
        SELECT coalesce(sum(pg_column_size(m.payload)), 0)::bigint
        FROM {schema}.messages AS m
        WHERE m.user_id = largest.user_id AND m.session_id = largest.id
    ) AS bytes,
    updated_at
FROM largest
ORDER BY messages DESC, user_id, id
