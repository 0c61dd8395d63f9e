-- Lock those sessions of a user that are still old and not locked.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: user_id, id, updated_at, ttl, has_expired; one a session
-- Races: what is locked, or was written to meanwhile, is not locked
WITH chosen AS MATERIALIZED (
    SELECT
        user_id, id, updated_at, ttl,
        (
            now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second'
        ) IS FALSE AS has_expired
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = ANY(:ids)
        AND (
            updated_at < :before
            OR (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS FALSE
        )
    ORDER BY id
    FOR UPDATE SKIP LOCKED
)
SELECT user_id, id, updated_at, ttl, has_expired FROM chosen
