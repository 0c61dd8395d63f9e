-- Save a state as the next round of a session whose last round is the expected one.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, expected bigint, payload text, packed bytea, metadata text, size bigint
-- Rows: the number of the round; no row if `expected` is not the number of the last round, or there is no round
-- Races: the head's row is locked until the commit, so saves into one session are serialized
WITH saved AS (
    UPDATE {schema}.state_heads
    SET
        next_round = next_round + 1,
        last_round = next_round,
        -- now() is the start of the statement, which may have waited for one that started later.
        updated_at = greatest(updated_at, now())
    WHERE user_id = :user_id AND session_id = :session_id AND last_round = :expected
    RETURNING last_round, updated_at
)
INSERT INTO {schema}.state_rounds (user_id, session_id, round, payload, packed, metadata, size, saved_at)
SELECT :user_id, :session_id, saved.last_round, :payload::json, :packed, :metadata::json, :size, saved.updated_at
FROM saved
RETURNING round
