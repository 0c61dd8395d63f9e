-- Read the users with the most messages, and how many rows of each kind they have.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: limit bigint
-- Rows: user_id, numbers of sessions, messages, memories, state rounds; the largest first
-- Races: none, since it only reads
WITH largest AS (
    SELECT user_id, count(*) AS sessions, sum(next_seq - 1 - removed)::bigint AS messages
    FROM {schema}.sessions
    GROUP BY user_id
    ORDER BY messages DESC, user_id
    LIMIT :limit
)
SELECT
    user_id, sessions, messages,
    (
        SELECT coalesce(sum(buckets.count), 0)::bigint
        FROM {schema}.memory_buckets AS buckets
        WHERE buckets.user_id = largest.user_id
    ) AS memories,
    (SELECT count(*) FROM {schema}.state_rounds AS rounds WHERE rounds.user_id = largest.user_id) AS state_rounds
FROM largest
ORDER BY messages DESC, user_id
