-- Read the sessions with the most messages, and the bytes of these.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: limit bigint
-- Rows: user_id, id, number of messages, bytes of their payloads as stored, updated_at; the largest first
-- Races: none, since it only reads
WITH largest AS MATERIALIZED (
    SELECT user_id, id, next_seq - 1 - removed AS messages, updated_at
    FROM {schema}.sessions
    ORDER BY messages DESC, user_id, id
    LIMIT :limit
),
sizes AS (
    SELECT m.user_id, m.session_id, sum(pg_column_size(m.payload))::bigint AS bytes
    FROM largest
    JOIN {schema}.messages AS m ON largest.user_id = m.user_id AND largest.id = m.session_id
    GROUP BY m.user_id, m.session_id
)
SELECT
    largest.user_id, largest.id, largest.messages, coalesce(sizes.bytes, 0) AS bytes, largest.updated_at
FROM largest
LEFT JOIN sizes ON largest.user_id = sizes.user_id AND largest.id = sizes.session_id
ORDER BY largest.messages DESC, largest.user_id, largest.id
