-- Lock those buckets of memories of a user that are still old and not locked.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: id, one a bucket
-- Races: what is locked, or was written to meanwhile, is not locked
WITH chosen AS MATERIALIZED (
    SELECT session_id AS id
    FROM {schema}.memory_buckets
    WHERE user_id = :user_id AND session_id = ANY(:ids)
        AND (
            updated_at < :before
            OR (now() - updated_at >= {settings.memory_ttl}::bigint * interval '1 second') IS TRUE
        )
    ORDER BY session_id
    FOR UPDATE SKIP LOCKED
)
SELECT id FROM chosen
