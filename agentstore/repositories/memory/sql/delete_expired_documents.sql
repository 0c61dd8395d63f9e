-- Delete those documents of a user that have expired and are not locked.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, ids text[]
-- Rows: id and bytes (the size of its contents) of each deleted document
-- Races: a document that is replaced or renewed meanwhile is not deleted
WITH expired AS MATERIALIZED (
    -- The bucket first, as a replacement does. Its lock is that of its document.
    SELECT b.session_id
    FROM {schema}.memory_buckets AS b
    WHERE b.user_id = :user_id AND b.session_id = ANY(:ids) AND b.count = 1
    ORDER BY b.session_id
    FOR UPDATE SKIP LOCKED
),
still AS MATERIALIZED (
    SELECT m.session_id, pg_column_size(m.payload) + pg_column_size(m.lexemes) AS bytes
    FROM {schema}.memories AS m
    WHERE m.user_id = :user_id AND m.session_id IN (SELECT expired.session_id FROM expired)
        AND m.seq = 1 AND m.id = m.session_id AND m.kind = 'document' AND m.valid_until <= now()
    ORDER BY m.session_id
    FOR UPDATE SKIP LOCKED
),
deleted AS (
    DELETE FROM {schema}.memory_buckets AS b
    WHERE b.user_id = :user_id AND b.session_id = ANY(ARRAY(SELECT still.session_id FROM still))
    RETURNING b.session_id
)
SELECT session_id AS id, bytes
FROM still
