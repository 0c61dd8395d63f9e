-- Create a session, and its user if missing; or read the existing session with its messages, writing nothing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, title text, metadata text, ttl bigint, app text, with_messages boolean
-- Rows: those of create.sql
-- Races: those of create.sql
--
-- See append.citus.sql.
SELECT
    created, created_at, updated_at, title, metadata, forked_from, forked_at, ttl, app, message_count, payload, place
FROM {schema}.citus_create_session_1(
        :user_id, :session_id, :title, :metadata, :ttl, :app, :with_messages, {settings.session_ttl}::bigint,
        {settings.lock_timeout}
    )
