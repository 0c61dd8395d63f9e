-- Delete those buckets of memories of a user that are still old and not locked, with their memories.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, with_counts boolean
-- Rows: one: the number of buckets of memories, the number of their memories, and the bytes of those
-- Races: what is locked, or was written to meanwhile, is not deleted
--
-- Without `with_counts` those numbers are 0: steps have deleted the rows, whose entries are still in the index.
WITH
-- include: lock_old_memories.sql
counted AS MATERIALIZED (
    -- Before the deletion, since on Citus what follows it does not see the rows.
    SELECT chosen.id, part.parts, part.bytes
    FROM chosen
    CROSS JOIN LATERAL (
        -- An aggregate of each, which is looked up in the index. A join might read the rows of all that the user has.
        SELECT count(*) AS parts, sum(pg_column_size(p.payload) + pg_column_size(p.lexemes)) AS bytes
        FROM {schema}.memories AS p
        WHERE p.user_id = :user_id AND p.session_id = chosen.id AND :with_counts
    ) AS part
),
deleted AS (
    DELETE FROM {schema}.memory_buckets AS r
    WHERE r.user_id = :user_id AND r.session_id = ANY(ARRAY(SELECT counted.id FROM counted))
    RETURNING 1
)
SELECT count(*) AS rows, coalesce(sum(parts), 0)::bigint AS parts, coalesce(sum(bytes), 0)::bigint AS bytes
FROM counted
