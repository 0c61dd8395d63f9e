-- Save a state as the round of a number, and raise the counters of the session's head to it. Create the head, and the
-- user, if missing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, round_id bigint, payload text, packed bytea, metadata text,
--   size bigint
-- Rows: the number of the round; no row if it exists and is not overwritten
-- Races: the head's row is locked until the commit, so saves into one session are serialized. 23503 if the user is
--   deleted meanwhile.
WITH
-- include: insert_user.sql
saved AS (
    INSERT INTO {schema}.state_heads AS head (user_id, session_id, next_round, last_round)
    SELECT :user_id, :session_id, :round_id + 1 AS next_round, :round_id
    FROM owner
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET
            next_round = greatest(head.next_round, :round_id + 1),
            last_round = greatest(head.last_round, :round_id),
            -- excluded.updated_at is now(), which Citus does not accept here itself: the start of the statement, which
            -- may have waited for one that started later.
            updated_at = greatest(head.updated_at, excluded.updated_at)
    RETURNING head.updated_at
)
INSERT INTO {schema}.state_rounds (user_id, session_id, round, payload, packed, metadata, size, saved_at)
SELECT :user_id, :session_id, :round_id, :payload::json, :packed, :metadata::json, :size, saved.updated_at
FROM saved
ON CONFLICT (user_id, session_id, round) DO UPDATE
    SET
        payload = excluded.payload,
        packed = excluded.packed,
        metadata = excluded.metadata,
        size = excluded.size,
        saved_at = excluded.saved_at
    -- A constant: Citus accepts no parameter here, nor in RETURNING, if the rows are those of a SELECT.
    WHERE {overwrites}
RETURNING round
