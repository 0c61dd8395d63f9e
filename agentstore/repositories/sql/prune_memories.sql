-- Delete those buckets of memories of a user that are still old and not locked, with their memories.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text
-- Rows: one: the number of buckets of memories, the number of their memories, and the bytes of those
-- Races: what is locked, or was written to meanwhile, is not deleted
WITH
-- include: lock_old_memories.sql
deleted AS (
    DELETE FROM {schema}.memory_buckets AS r
    WHERE r.user_id = :user_id AND r.session_id = ANY(ARRAY(SELECT chosen.id FROM chosen))
    RETURNING 1
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
