-- Make the failed jobs of a user due again.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text
-- Rows: one for each job
-- Races: waits for other transactions that change the jobs. They are locked in order, so that concurrent calls do not
--   deadlock.
WITH failed AS MATERIALIZED (
    SELECT session_id, first_seq
    FROM {schema}.memory_extractions
    WHERE user_id = :user_id AND failed_at IS NOT NULL
    ORDER BY session_id, first_seq
    FOR UPDATE
)
UPDATE {schema}.memory_extractions AS job
SET failed_at = NULL, attempts = 0, outages = 0, run_after = now()
FROM failed
WHERE job.user_id = :user_id
    AND job.session_id = failed.session_id
    AND job.first_seq = failed.first_seq
    AND job.failed_at IS NOT NULL
RETURNING job.user_id
