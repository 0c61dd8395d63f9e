-- Delete those buckets of memories of a user that are still old and not locked, with their memories.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: one: the number of buckets of memories, the number of their memories, and the bytes of those
-- Races: what is locked, or was written to meanwhile, is not deleted
WITH chosen AS MATERIALIZED (
    SELECT session_id AS id
    FROM {schema}.memory_buckets
    WHERE user_id = :user_id AND session_id = ANY(:ids)
        AND (
            updated_at < :before
            OR coalesce(now() - updated_at >= {settings.memory_ttl}::bigint * interval '1 second', FALSE)
        )
    ORDER BY session_id
    FOR UPDATE SKIP LOCKED
),
deleted AS (
    DELETE FROM {schema}.memory_buckets AS r
    WHERE r.user_id = :user_id AND r.session_id = ANY(ARRAY(SELECT chosen.id FROM chosen))
    RETURNING 1
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
