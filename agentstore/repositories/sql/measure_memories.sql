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
            OR coalesce(now() - updated_at >= {settings.memory_ttl}::bigint * interval '1 second', FALSE)
        )
    ORDER BY session_id
),
counted AS (
    SELECT
        count(*) AS parts,
        coalesce(sum(pg_column_size(part.payload) + pg_column_size(part.lexemes)), 0) AS bytes
    FROM chosen
    JOIN {schema}.memories AS part ON chosen.id = part.session_id AND part.user_id = :user_id
)
SELECT (SELECT count(*) FROM chosen) AS rows, counted.parts, counted.bytes
FROM counted
