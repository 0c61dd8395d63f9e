-- Claim a job that was listed as due, if it is still due.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, first_seq bigint, early interval, lease text, lease_time interval
-- Rows: the job, or none if it is no longer due
-- Races: returns no row if another transaction has locked or claimed the job
WITH due AS MATERIALIZED (
    -- The conditions are those of list_due_extractions.sql.
    SELECT first_seq
    FROM {schema}.memory_extractions AS job
    WHERE user_id = :user_id
        AND session_id = :session_id
        AND first_seq = :first_seq
        AND failed_at IS NULL
        AND run_after <= now() + :early
        AND (error IS NULL OR run_after <= now())
        AND (leased_until IS NULL OR leased_until <= now())
        AND NOT EXISTS (
            SELECT 1
            FROM {schema}.memory_extractions AS other
            WHERE other.user_id = job.user_id AND other.lease IS NOT NULL AND other.leased_until > now()
        )
    FOR UPDATE OF job SKIP LOCKED
)
UPDATE {schema}.memory_extractions AS job
SET lease = :lease, leased_until = now() + :lease_time, attempts = job.attempts + 1
FROM due
WHERE job.user_id = :user_id AND job.session_id = :session_id AND job.first_seq = due.first_seq
RETURNING job.user_id, job.session_id, job.first_seq, job.last_seq, job.attempts, job.outages
