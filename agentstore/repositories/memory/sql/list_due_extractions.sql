-- Return the keys of the jobs that have been due for longest, of all users.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: early interval, limit bigint
-- Rows: user_id, session_id, first_seq
-- Races: another worker may claim a job before the caller
--
-- list_due_extractions_of_user.sql and claim_extraction.sql have the same conditions.
SELECT user_id, session_id, first_seq
FROM {schema}.memory_extractions AS job
WHERE failed_at IS NULL
    AND run_after <= now() + :early
    -- After a failure, :early does not shorten the delay.
    AND (error IS NULL OR run_after <= now())
    AND (leased_until IS NULL OR leased_until <= now())
    AND NOT EXISTS (
        -- The conversations of a user are extracted one after another, so that each is read together with the items of
        -- the previous ones. Two workers that claim at the same moment may still take two jobs of one user.
        SELECT 1
        FROM {schema}.memory_extractions AS other
        WHERE other.user_id = job.user_id AND other.lease IS NOT NULL AND other.leased_until > now()
    )
ORDER BY run_after
LIMIT :limit
