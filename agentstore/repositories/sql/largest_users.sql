-- Read the users with the most messages, and how many rows of each kind they have.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: limit bigint
-- Rows: user_id, numbers of sessions, messages, memories, state rounds; the largest first
-- Races: none, since it only reads
WITH largest AS MATERIALIZED (
    SELECT user_id, count(*) AS sessions, sum(next_seq - 1 - removed)::bigint AS messages
    FROM {schema}.sessions
    GROUP BY user_id
    ORDER BY messages DESC, user_id
    LIMIT :limit
),
memories AS (
    SELECT buckets.user_id, sum(buckets.count)::bigint AS count
    FROM largest
    JOIN {schema}.memory_buckets AS buckets ON largest.user_id = buckets.user_id
    GROUP BY buckets.user_id
),
rounds AS (
    SELECT rounds.user_id, count(*) AS count
    FROM largest
    JOIN {schema}.state_rounds AS rounds ON largest.user_id = rounds.user_id
    GROUP BY rounds.user_id
)
SELECT
    largest.user_id, largest.sessions, largest.messages,
    coalesce(memories.count, 0) AS memories, coalesce(rounds.count, 0) AS state_rounds
FROM largest
LEFT JOIN memories ON largest.user_id = memories.user_id
LEFT JOIN rounds ON largest.user_id = rounds.user_id
ORDER BY largest.messages DESC, largest.user_id
