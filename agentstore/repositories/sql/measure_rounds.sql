-- Count the old rounds of a session: what prune_rounds.sql would delete, in all batches.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, before timestamptz, keep bigint
-- Rows: one: the number of rounds, and their bytes
-- Races: none, since it only reads
SELECT
    count(*) AS rounds,
    coalesce(sum(coalesce(pg_column_size(r.packed), pg_column_size(r.payload))), 0) AS bytes
FROM {schema}.state_rounds AS r
WHERE r.user_id = :user_id AND r.session_id = :session_id AND r.saved_at < :before
    AND r.round < (
        SELECT round
        FROM {schema}.state_rounds
        WHERE user_id = :user_id AND session_id = :session_id
        ORDER BY round DESC
        LIMIT 1 OFFSET greatest(:keep, 1) - 1
    )
