-- Save a state as the next round of a session, and create the session's head, and the user, if missing.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, expected bigint, payload text, packed bytea, metadata text, size bigint
-- Rows: those of save_state.sql
-- Races: those of save_state.sql
--
-- See sessions/sql/append.citus.sql.
SELECT round
FROM {schema}.citus_save_state_1(
        :user_id, :session_id, :expected, :payload, :packed, :metadata, :size, {settings.lock_timeout}
    )
