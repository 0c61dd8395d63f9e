-- Insert a session with its messages and its timestamps, and its user if missing, unless the session exists.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, title text, metadata text, ttl bigint, app text, created_at timestamptz,
--   updated_at timestamptz, forked_from text, forked_at bigint, count bigint, ids text[], payloads text[]
-- Rows: updated_at of the new session; or null if it would have expired, and nothing was inserted
-- Races: no row if the session exists, or a concurrent transaction has just created it; nor if an expired one exists
WITH given AS (
    -- A timestamp in the future is replaced by now(): it would keep the session on top of its user's list.
    SELECT least(coalesce(:created_at, :updated_at, now()), now()) AS created_at
),
times AS (
    SELECT created_at, greatest(created_at, least(coalesce(:updated_at, now()), now())) AS updated_at
    FROM given
),
missing AS MATERIALIZED (
    -- No row if the session exists.
    SELECT
        created_at, updated_at,
        (
            now() - updated_at < coalesce(:ttl, {settings.session_ttl}::bigint) * interval '1 second'
        ) IS NOT FALSE AS is_live
    FROM times
    WHERE NOT EXISTS (
            SELECT FROM {schema}.sessions AS s
            WHERE s.user_id = :user_id AND s.id = :session_id
                AND (
                    now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second'
                ) IS NOT FALSE
        )
),
inserted_user AS (
    -- As in insert_user.sql, but only if the session is inserted.
    INSERT INTO {schema}.users (id)
    SELECT :user_id
    FROM missing
    WHERE missing.is_live AND NOT EXISTS (SELECT FROM {schema}.users WHERE id = :user_id)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
),
owner AS (
    SELECT count(*) AS inserted FROM inserted_user
),
created AS (
    INSERT INTO {schema}.sessions (
        user_id, id, title, metadata, ttl, app, next_seq, created_at, updated_at, listed_at, forked_from,
        forked_at
    )
    SELECT
        :user_id, :session_id, :title, :metadata::json, :ttl, :app, :count + 1,
        missing.created_at, missing.updated_at, date_trunc('minute', missing.updated_at), :forked_from, :forked_at
    FROM owner
    CROSS JOIN missing
    WHERE missing.is_live
    ON CONFLICT (user_id, id) DO NOTHING
    RETURNING updated_at
),
created_messages AS (
    INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at)
    SELECT :user_id, :session_id, message.position, message.id, message.payload::json, created.updated_at
    FROM created
    CROSS JOIN unnest(:ids, :payloads) WITH ORDINALITY AS message (id, payload, position)
    RETURNING 1
)
SELECT updated_at FROM created
UNION ALL
SELECT NULL FROM missing WHERE NOT is_live
