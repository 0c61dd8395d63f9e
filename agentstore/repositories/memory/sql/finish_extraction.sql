-- Delete a job, or shorten it by the messages that are done.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, first_seq bigint, lease text, done_seq bigint
-- Rows: one, or none if another worker has claimed the job, or the job was deleted with its bucket
-- Races: none. The caller has locked the bucket, as every addition does before it extends the job.
WITH done AS (
    DELETE FROM {schema}.memory_extractions
    WHERE user_id = :user_id
        AND session_id = :session_id
        AND first_seq = :first_seq
        AND lease = :lease
        AND last_seq <= :done_seq
    RETURNING 1 AS one
),
shortened AS (
    UPDATE {schema}.memory_extractions
    SET first_seq = :done_seq + 1, attempts = 0, outages = 0, lease = NULL, leased_until = NULL, error = NULL
    WHERE user_id = :user_id
        AND session_id = :session_id
        AND first_seq = :first_seq
        AND lease = :lease
        AND last_seq > :done_seq
    RETURNING 1 AS one
)
SELECT one
FROM done
UNION ALL
SELECT one
FROM shortened
