-- Save a state as the next round of a session, and create the session's head, and the user, if missing.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, expected bigint, payload text, packed bytea, metadata text, size bigint
-- Rows: the number of the round; no row if `expected` is not null, and not the number of the last round
-- Races: the head's row is locked until the commit, so saves into one session are serialized. 23503 if the user is
--   deleted meanwhile.
--
-- `expected` is null or 0 here: without a head the state is saved, whatever it is. save_state_after.sql is for others.
WITH
-- include: insert_user.sql
saved AS (
    INSERT INTO {schema}.state_heads AS head (user_id, session_id, next_round, last_round)
    SELECT :user_id, :session_id, 2 AS next_round, 1 AS last_round
    FROM owner
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET
            next_round = head.next_round + 1,
            last_round = head.next_round,
            -- excluded.updated_at is now(), which Citus does not accept here itself: the start of the statement, which
            -- may have waited for one that started later.
            updated_at = greatest(head.updated_at, excluded.updated_at)
        WHERE :expected IS NULL OR head.last_round = :expected
    RETURNING head.last_round, head.updated_at
)
INSERT INTO {schema}.state_rounds (user_id, session_id, round, payload, packed, metadata, size, saved_at)
SELECT :user_id, :session_id, saved.last_round, :payload::json, :packed, :metadata::json, :size, saved.updated_at
FROM saved
RETURNING round
