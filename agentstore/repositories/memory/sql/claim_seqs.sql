-- Claim the next positions of a bucket for new memories, and insert the bucket and its user if missing.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, count bigint, all_tokens bigint
-- Rows: base, the last position before the claimed ones
-- Races: waits for other transactions that add to the bucket; fails with 23503 if the user is deleted meanwhile
WITH
-- include: ../../sql/insert_user.sql
claimed AS (
    INSERT INTO {schema}.memory_buckets AS bucket (user_id, session_id, count, tokens)
    SELECT :user_id, :session_id, :count, :all_tokens
    FROM owner
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET
            count = bucket.count + excluded.count,
            tokens = bucket.tokens + excluded.tokens,
            -- The default of the excluded row is now(), which Citus does not accept here.
            updated_at = greatest(bucket.updated_at, excluded.updated_at)
    RETURNING bucket.count - :count AS base
)
SELECT base
FROM claimed
