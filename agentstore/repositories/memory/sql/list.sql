-- Return the memories of a user from the offset on, by session and position.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, offset bigint, expired text[], limit bigint
-- Rows: session_id, seq, payload, kind, valid_until, namespace, time
-- Races: none, since it only reads
--
-- `expired` are the sessions whose memories have expired.
WITH start AS MATERIALIZED (
    -- The page's first memory is computed from the counts of the buckets, so no memory before the page is read. The
    -- buckets are read in order, and none after that of the first memory.
    SELECT session_id, :offset - before + 1 AS seq
    FROM (
        SELECT session_id, count, (sum(count) OVER preceding - count)::bigint AS before
        FROM {schema}.memory_buckets
        WHERE user_id = :user_id AND session_id <> ALL((SELECT :expired)::text[])
        WINDOW preceding AS (ORDER BY session_id ROWS UNBOUNDED PRECEDING)
    ) AS counted
    WHERE before + count > :offset
    ORDER BY session_id
    LIMIT 1
)
SELECT session_id, seq, payload::text AS payload, kind, valid_until, namespace, time
FROM {schema}.memories
WHERE user_id = :user_id
    AND session_id <> ALL((SELECT :expired)::text[])
    AND (session_id, seq) >= ((SELECT session_id FROM start), (SELECT seq FROM start))
ORDER BY session_id, seq
LIMIT :limit
