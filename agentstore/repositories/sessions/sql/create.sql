-- Create a session, and its user if missing; or read the existing session with its messages, writing nothing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, title text, metadata text, ttl bigint, app text, with_messages boolean
-- Rows: one for the session: created, the columns of the session, nulls; then one for each message of an existing
--   session: false, nulls, payload, place
-- Races: no row if a concurrent transaction has created the session after this statement's snapshot; nor if the session
--   has expired
WITH existing AS MATERIALIZED (
    SELECT
        created_at, updated_at, title, metadata::text AS metadata, forked_from, forked_at, ttl, app,
        next_seq - 1 - removed AS message_count
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
),
-- include: ../../sql/insert_user.sql
created AS (
    INSERT INTO {schema}.sessions (user_id, id, title, metadata, ttl, app)
    SELECT :user_id, :session_id, :title, :metadata::json, :ttl, :app
    FROM owner
    WHERE NOT EXISTS (SELECT FROM existing)
    ON CONFLICT (user_id, id) DO NOTHING
    RETURNING created_at, updated_at, title, metadata::text AS metadata, forked_from, forked_at, ttl, app
)
SELECT
    FALSE AS created, created_at, updated_at, title, metadata, forked_from, forked_at, ttl, app, message_count,
    NULL::bytea AS payload, NULL::bytea AS place
FROM existing
UNION ALL
SELECT TRUE, created_at, updated_at, title, metadata, forked_from, forked_at, ttl, app, 0, NULL, NULL
FROM created
UNION ALL
(
    -- The bytes of the JSON text, which pydantic validates without decoding them first.
    SELECT
        FALSE, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        json_send(payload), int8send(seq) || timestamptz_send(created_at)
    FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id AND :with_messages AND EXISTS (SELECT FROM existing)
    ORDER BY seq
)
