-- Count those sessions of a user that are old, and their messages: what prune_sessions.sql would delete.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: user_id, id, updated_at, ttl, has_expired, parts (the number of messages), bytes (of those); one a session
-- Races: none, since it only reads
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
)
SELECT
    chosen.user_id, chosen.id, chosen.updated_at, chosen.ttl, chosen.has_expired, counted.parts,
    coalesce(counted.bytes, 0) AS bytes
FROM chosen
CROSS JOIN LATERAL (
    -- An aggregate of each, which is looked up in the index. A join might read the rows of all that the user has.
    SELECT count(*) AS parts, sum(pg_column_size(part.payload)) AS bytes
    FROM {schema}.messages AS part
    WHERE part.user_id = :user_id AND part.session_id = chosen.id
) AS counted
