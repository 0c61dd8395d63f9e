-- Set and delete values of a user and of a session, and create the user if missing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, app text, user_keys text[], user_texts text[], user_removed text[],
--   session_keys text[], session_texts text[], session_removed text[]
-- Rows: one; none if the session does not exist, and nothing was written
-- Races: the user and the session are locked first, as foreign keys lock them, since their deletion locks them before
--   their values; then existing keys, in their order, and new ones are inserted in it. So concurrent writers of the
--   same keys wait for each other, and never in a circle. 23503 if the user is deleted after it was found.
--
-- `session_id` is null if there are no values of a session. The keys are in the order of their bytes.
WITH locked_user AS MATERIALIZED (
    SELECT id FROM {schema}.users WHERE id = :user_id FOR KEY SHARE
),
locked_session AS MATERIALIZED (
    SELECT id
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id AND (SELECT count(*) FROM locked_user) >= 0
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
    FOR KEY SHARE
),
target AS MATERIALIZED (
    SELECT 1 AS found
    WHERE (SELECT count(*) FROM locked_user) >= 0
        AND (:session_id IS NULL OR (SELECT count(*) FROM locked_session) > 0)
),
inserted_user AS (
    -- As in insert_user.sql, but only if the session exists.
    INSERT INTO {schema}.users (id)
    SELECT :user_id
    FROM target
    WHERE NOT EXISTS (SELECT FROM locked_user)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
),
owner AS (
    SELECT count(*) AS inserted FROM inserted_user
),
locked_user_values AS MATERIALIZED (
    SELECT key
    FROM {schema}.user_values
    WHERE user_id = :user_id AND app = :app AND key = ANY(:user_keys || :user_removed)
        AND (SELECT count(*) FROM owner) >= 0 AND EXISTS (SELECT FROM target)
    ORDER BY key
    FOR UPDATE
),
deleted_user_values AS (
    DELETE FROM {schema}.user_values
    WHERE user_id = :user_id AND app = :app AND key = ANY(:user_removed)
        AND (SELECT count(*) FROM locked_user_values) >= 0 AND EXISTS (SELECT FROM target)
    RETURNING key
),
merged_user_values AS (
    INSERT INTO {schema}.user_values (user_id, app, key, value)
    SELECT :user_id, :app, given.key, given.value::json
    FROM target
    CROSS JOIN unnest(:user_keys, :user_texts) WITH ORDINALITY AS given (key, value, position)
    WHERE (SELECT count(*) FROM locked_user_values) >= 0
    ORDER BY given.position
    ON CONFLICT (user_id, app, key) DO UPDATE SET value = excluded.value
    RETURNING key
),
locked_session_values AS MATERIALIZED (
    SELECT key
    FROM {schema}.session_values
    WHERE user_id = :user_id AND session_id = :session_id AND key = ANY(:session_keys || :session_removed)
        AND (SELECT count(*) FROM merged_user_values) >= 0 AND EXISTS (SELECT FROM target)
    ORDER BY key
    FOR UPDATE
),
deleted_session_values AS (
    DELETE FROM {schema}.session_values
    WHERE user_id = :user_id AND session_id = :session_id AND key = ANY(:session_removed)
        AND (SELECT count(*) FROM locked_session_values) >= 0 AND EXISTS (SELECT FROM target)
    RETURNING key
),
merged_session_values AS (
    INSERT INTO {schema}.session_values (user_id, session_id, key, value)
    SELECT :user_id, :session_id, given.key, given.value::json
    FROM target
    CROSS JOIN unnest(:session_keys, :session_texts) WITH ORDINALITY AS given (key, value, position)
    WHERE (SELECT count(*) FROM locked_session_values) >= 0
    ORDER BY given.position
    ON CONFLICT (user_id, session_id, key) DO UPDATE SET value = excluded.value
    RETURNING key
)
SELECT found FROM target
