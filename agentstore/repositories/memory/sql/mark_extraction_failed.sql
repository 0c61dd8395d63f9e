-- Mark the part of a job that was tried as failed, and insert the rest of it as a new job.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, first_seq bigint, lease text, done_seq bigint, error text
-- Rows: one, or none if another worker has claimed the job, or the job was deleted with its bucket
-- Races: waits for transactions that delete the bucket or extend the job
WITH bucket AS MATERIALIZED (
    -- Locked first, as a deletion does, because `rest` refers to it by a foreign key.
    SELECT user_id, session_id
    FROM {schema}.memory_buckets
    WHERE user_id = :user_id AND session_id = :session_id
    FOR KEY SHARE
),
leased AS MATERIALIZED (
    SELECT job.first_seq, job.last_seq, job.is_open
    FROM {schema}.memory_extractions AS job
    -- Not a join: in a CTE, Citus locks no table that is joined with the rows of another CTE.
    WHERE EXISTS (SELECT FROM bucket)
        AND job.user_id = :user_id
        AND job.session_id = :session_id
        AND job.first_seq = :first_seq
        AND job.lease = :lease
    FOR UPDATE
),
failed AS (
    UPDATE {schema}.memory_extractions AS job
    SET
        last_seq = :done_seq,
        is_open = FALSE,
        failed_at = now(),
        lease = NULL,
        leased_until = NULL,
        error = :error
    FROM leased
    WHERE job.user_id = :user_id
        AND job.session_id = :session_id
        AND job.first_seq = leased.first_seq
        AND job.lease = :lease
    RETURNING leased.last_seq, leased.is_open
),
rest AS (
    -- Reads from `failed`, so that it is executed after it: a bucket has at most one open job.
    INSERT INTO {schema}.memory_extractions (user_id, session_id, first_seq, last_seq, is_open, run_after)
    SELECT :user_id, :session_id, :done_seq + 1 AS first_seq, last_seq, is_open, now() AS run_after
    FROM failed
    WHERE last_seq > :done_seq
    RETURNING 1
)
SELECT last_seq
FROM failed
