-- Delete the checkpoints of runs in a session, with their writes.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, run_ids text[]
-- Rows: one: the number of checkpoints deleted
-- Races: none: the head must be locked
WITH deleted AS (
    DELETE FROM {schema}.checkpoints AS c
    WHERE c.user_id = :user_id AND c.session_id = :session_id AND c.run_id = ANY(:run_ids)
    RETURNING c.namespace, c.id
),
deleted_writes AS (
    DELETE FROM {schema}.checkpoint_writes AS w
    USING deleted
    WHERE
        w.user_id = :user_id AND w.session_id = :session_id AND w.namespace = deleted.namespace
        AND w.checkpoint_id = deleted.id
    RETURNING w.number
)
SELECT count(*) AS checkpoints, (SELECT count(*) FROM deleted_writes) AS writes
FROM deleted
