-- Count those buckets of memories of a user that are old, and their memories: what prune_memories.sql would delete.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: one: the number of buckets of memories, the number of their memories, and the bytes of those
-- Races: none, since it only reads
WITH chosen AS MATERIALIZED (
    SELECT session_id AS id
    FROM {schema}.memory_buckets
    WHERE user_id = :user_id AND session_id = ANY(:ids)
        AND (
            updated_at < :before
            OR (now() - updated_at >= {settings.memory_ttl}::bigint * interval '1 second') IS TRUE
        )
    ORDER BY session_id
)
SELECT
    count(*) AS rows, coalesce(sum(counted.parts), 0)::bigint AS parts, coalesce(sum(counted.bytes), 0)::bigint AS bytes
FROM chosen
CROSS JOIN LATERAL (
    -- An aggregate of each, which is looked up in the index. A join might read the rows of all that the user has.
    SELECT count(*) AS parts, sum(pg_column_size(part.payload) + pg_column_size(part.lexemes)) AS bytes
    FROM {schema}.memories AS part
    WHERE part.user_id = :user_id AND part.session_id = chosen.id
) AS counted
