-- Count the checkpoints of a session, and measure what is stored of them.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text
-- Rows: one: checkpoints, bytes
-- Races: none, since it only reads
SELECT
    count(*) AS checkpoints,
    (
        coalesce(sum(octet_length(c.data) + octet_length(c.metadata)), 0)
        + (
            SELECT coalesce(sum(octet_length(v.data)), 0)
            FROM {schema}.checkpoint_values AS v
            WHERE v.user_id = :user_id AND v.session_id = :session_id
        )
        + (
            SELECT coalesce(sum(octet_length(w.data)), 0)
            FROM {schema}.checkpoint_writes AS w
            WHERE w.user_id = :user_id AND w.session_id = :session_id
        )
    )::bigint AS bytes
FROM {schema}.checkpoints AS c
WHERE c.user_id = :user_id AND c.session_id = :session_id
