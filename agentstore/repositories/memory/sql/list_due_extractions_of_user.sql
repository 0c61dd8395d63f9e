-- Return the keys of a user's jobs that have been due for longest.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, early interval, limit bigint
-- Rows: user_id, session_id, first_seq; none while another worker has a job of the user
-- Races: another worker may claim a job before the caller
SELECT user_id, session_id, first_seq
FROM {schema}.memory_extractions
WHERE user_id = :user_id
    -- The conditions are those of list_due_extractions.sql.
    AND failed_at IS NULL
    AND run_after <= now() + :early
    AND (error IS NULL OR run_after <= now())
    AND (leased_until IS NULL OR leased_until <= now())
    AND NOT EXISTS (
        SELECT 1
        FROM {schema}.memory_extractions AS other
        WHERE other.user_id = :user_id AND other.lease IS NOT NULL AND other.leased_until > now()
    )
ORDER BY run_after
LIMIT :limit
