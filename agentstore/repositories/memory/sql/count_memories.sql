-- Store how many memories a user with many sessions has, and their tokens, if what is stored may be out of date.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, dice float8, changes bigint
-- Rows: memories, the stored number, or null if none is needed; none if nothing was stored
-- Races: the sums are those of the statement's snapshot; a user whose row is locked is left to a later call
--
-- The row is not locked by those that add memories, which would then wait for each other. It is written again after
-- about a sixteenth of the memories has changed: with a probability of 16 * `changes` / the stored number, since `dice`
-- is a random number from 0 to 1.
WITH due AS MATERIALIZED (
    SELECT owner.id, size.is_large
    FROM {schema}.users AS owner
    CROSS JOIN (
        SELECT count(*) > 0 AS is_large
        FROM (
            SELECT user_id
            FROM {schema}.memory_buckets
            WHERE user_id = :user_id
            ORDER BY session_id
            LIMIT 1 OFFSET {ranking.SUMMED_SESSIONS}
        ) AS later
    ) AS size
    WHERE owner.id = :user_id
        AND CASE
            WHEN NOT size.is_large THEN owner.memories IS NOT NULL
            ELSE owner.memories IS NULL OR :dice * owner.memories < 16 * :changes
        END
    FOR NO KEY UPDATE OF owner SKIP LOCKED
),
summed AS MATERIALIZED (
    SELECT sum(count)::bigint AS count, sum(tokens)::bigint AS tokens
    FROM {schema}.memory_buckets
    WHERE user_id = :user_id AND EXISTS (SELECT FROM due WHERE due.is_large)
)
UPDATE {schema}.users
SET memories = summed.count, memory_tokens = summed.tokens
FROM due
CROSS JOIN summed
WHERE users.id = :user_id AND users.id = due.id
RETURNING users.memories
