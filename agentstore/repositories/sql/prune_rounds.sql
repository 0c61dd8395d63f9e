-- Delete a batch of the old rounds of a session.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, before timestamptz, keep bigint, limit bigint
-- Rows: one: the number of rounds, and their bytes. The last `keep` rounds are retained, and at least the highest.
-- Races: none in a transaction that has locked the head
WITH chosen AS MATERIALIZED (
    SELECT r.round, coalesce(pg_column_size(r.packed), pg_column_size(r.payload)) AS size
    FROM {schema}.state_rounds AS r
    WHERE r.user_id = :user_id AND r.session_id = :session_id AND r.saved_at < :before
        AND r.round < (
            SELECT round
            FROM {schema}.state_rounds
            WHERE user_id = :user_id AND session_id = :session_id
            ORDER BY round DESC
            LIMIT 1 OFFSET greatest(:keep, 1) - 1
        )
    ORDER BY r.round
    LIMIT :limit
),
deleted AS (
    -- An array, whose rounds are looked up in the index. A join without statistics, as after many saves at once, would
    -- read all of the chosen rounds for each round.
    DELETE FROM {schema}.state_rounds AS r
    WHERE r.user_id = :user_id AND r.session_id = :session_id AND r.round = ANY(ARRAY(SELECT chosen.round FROM chosen))
    RETURNING 1
)
SELECT count(*) AS rounds, coalesce(sum(size), 0) AS bytes
FROM chosen
