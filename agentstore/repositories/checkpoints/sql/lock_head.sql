-- Lock the head of a session, and create it, and the user, if missing.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, new_epoch bigint
-- Rows: epoch
-- Races: the head's row is locked until the commit. 23503 if the user is deleted meanwhile.
WITH
-- include: ../../sql/insert_user.sql
saved AS (
    INSERT INTO {schema}.checkpoint_heads AS head (user_id, session_id, epoch)
    SELECT :user_id, :session_id, :new_epoch
    FROM owner
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET updated_at = greatest(head.updated_at, excluded.updated_at)
    RETURNING head.epoch
)
SELECT epoch
FROM saved
