-- Delete the user and all of the user's data, unless that has more than `most` rows.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, most bigint
-- Rows: one, the numbers of sessions, messages, memories, state rounds, workspaces, values of the user, blobs
--   and checkpoints deleted; and is_large: there are more sessions, messages, memories, state rounds and checkpoints,
--   and nothing was deleted
-- Races: the user is locked first, so that a concurrent deletion waits before it holds any other lock; then the rows in
--   the order of their ids, as in every statement that locks several. Rows that are inserted meanwhile are deleted by
--   the foreign keys, uncounted, or their insertion fails because the user is missing.
WITH size AS MATERIALIZED (
    -- At most `most` rows of each table are counted.
    SELECT
        (
            SELECT coalesce(sum(s.rows), 0)
            FROM (
                SELECT next_seq - removed AS rows
                FROM {schema}.sessions
                WHERE user_id = :user_id
                ORDER BY id
                LIMIT (SELECT :most)
            ) AS s
        )
        + (
            SELECT coalesce(sum(b.rows), 0)
            FROM (
                SELECT count AS rows
                FROM {schema}.memory_buckets
                WHERE user_id = :user_id
                ORDER BY session_id
                LIMIT (SELECT :most)
            ) AS b
        )
        + (
            SELECT count(*)
            FROM (
                SELECT round
                FROM {schema}.state_rounds
                WHERE user_id = :user_id
                ORDER BY session_id, round
                LIMIT (SELECT :most)
            ) AS r
        )
        + (
            SELECT count(*)
            FROM (
                SELECT id
                FROM {schema}.checkpoints
                WHERE user_id = :user_id
                ORDER BY session_id, namespace, id
                LIMIT (SELECT :most)
            ) AS c
        ) > :most AS is_large
),
owner AS MATERIALIZED (
    SELECT id FROM {schema}.users WHERE id = :user_id AND NOT (SELECT is_large FROM size) FOR UPDATE
),
locked_sessions AS MATERIALIZED (
    SELECT id
    FROM {schema}.sessions
    WHERE user_id = :user_id AND (SELECT count(*) FROM owner) >= 0 AND NOT (SELECT is_large FROM size)
    ORDER BY id
    FOR UPDATE OF sessions
),
deleted_sessions AS (
    DELETE FROM {schema}.sessions
    USING locked_sessions
    WHERE sessions.user_id = :user_id AND sessions.id = locked_sessions.id
    RETURNING sessions.next_seq - 1 - sessions.removed AS messages
),
locked_buckets AS MATERIALIZED (
    SELECT session_id
    FROM {schema}.memory_buckets
    WHERE user_id = :user_id AND (SELECT count(*) FROM owner) >= 0 AND NOT (SELECT is_large FROM size)
    ORDER BY session_id
    FOR UPDATE OF memory_buckets
),
deleted_buckets AS (
    DELETE FROM {schema}.memory_buckets
    USING locked_buckets
    WHERE memory_buckets.user_id = :user_id AND memory_buckets.session_id = locked_buckets.session_id
    RETURNING memory_buckets.count AS memories
),
locked_heads AS MATERIALIZED (
    SELECT session_id
    FROM {schema}.state_heads
    WHERE user_id = :user_id AND (SELECT count(*) FROM owner) >= 0 AND NOT (SELECT is_large FROM size)
    ORDER BY session_id
    FOR UPDATE OF state_heads
),
deleted_heads AS (
    DELETE FROM {schema}.state_heads
    USING locked_heads
    WHERE state_heads.user_id = :user_id AND state_heads.session_id = locked_heads.session_id
    RETURNING state_heads.session_id
),
deleted_rounds AS (
    -- Rounds saved after the snapshot of this statement are deleted by the foreign key.
    DELETE FROM {schema}.state_rounds
    USING deleted_heads
    WHERE state_rounds.user_id = :user_id AND state_rounds.session_id = deleted_heads.session_id
    RETURNING state_rounds.round
),
counted AS (
    -- The foreign key deletes values, blobs, checkpoints, workspaces and sandboxes. The holder of a sandbox notices
    -- when it renews its lease.
    SELECT
        count(*) AS sessions,
        coalesce(sum(messages), 0)::bigint AS messages,
        (SELECT coalesce(sum(memories), 0)::bigint FROM deleted_buckets) AS memories,
        (SELECT count(*) FROM deleted_rounds) AS state_rounds,
        (SELECT count(*) FROM {schema}.workspaces WHERE user_id = :user_id) AS workspaces,
        (SELECT count(*) FROM {schema}.user_values WHERE user_id = :user_id) AS user_values,
        (SELECT count(*) FROM {schema}.blobs WHERE user_id = :user_id) AS blobs,
        (SELECT count(*) FROM {schema}.checkpoints WHERE user_id = :user_id) AS checkpoints
    FROM deleted_sessions
),
deleted_user AS (
    -- Depends on the count, so that the rows above are deleted first.
    DELETE FROM {schema}.users
    USING counted
    WHERE users.id = :user_id AND counted.sessions >= 0 AND NOT (SELECT is_large FROM size)
    RETURNING users.id
)
SELECT
    sessions, messages, memories, state_rounds, workspaces, user_values, blobs, checkpoints,
    (SELECT is_large FROM size) AS is_large
FROM counted
