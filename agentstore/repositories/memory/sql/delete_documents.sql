-- Delete documents of a user, with their buckets.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, ids text[]
-- Rows: the ids of the deleted documents
-- Races: waits for a concurrent write of a document, and deletes what that has written
WITH found AS MATERIALIZED (
    SELECT b.session_id
    FROM {schema}.memory_buckets AS b
    WHERE b.user_id = :user_id AND b.session_id = ANY(:ids) AND b.count = 1
        AND EXISTS (
            SELECT FROM {schema}.memories AS m
            WHERE m.user_id = :user_id AND m.session_id = b.session_id AND m.seq = 1 AND m.id = b.session_id
                AND m.kind = 'document' AND m.user_id = b.user_id
        )
    ORDER BY b.session_id
    FOR UPDATE
)
DELETE FROM {schema}.memory_buckets AS b
WHERE b.user_id = :user_id AND b.session_id = ANY(ARRAY(SELECT found.session_id FROM found))
RETURNING b.session_id
