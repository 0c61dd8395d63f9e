-- Delete those sessions of a user that are still old and not locked, with their messages.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: user_id, id, updated_at, ttl, has_expired, parts (the number of messages), bytes (of those); one a session
-- Races: what is locked, or was written to meanwhile, is not deleted
WITH chosen AS MATERIALIZED (
    SELECT
        user_id, id, updated_at, ttl,
        NOT coalesce(
            now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second', TRUE
        ) AS has_expired
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = ANY(:ids)
        AND (
            updated_at < :before
            OR NOT coalesce(
                now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second', TRUE
            )
        )
    ORDER BY id
    FOR UPDATE SKIP LOCKED
),
deleted AS (
    DELETE FROM {schema}.sessions AS r
    WHERE r.user_id = :user_id AND r.id = ANY(ARRAY(SELECT chosen.id FROM chosen))
    RETURNING 1
),
counted AS (
    SELECT
        chosen.id,
        count(*) AS parts,
        sum(pg_column_size(part.payload)) AS bytes
    FROM chosen
    JOIN {schema}.messages AS part ON chosen.id = part.session_id AND part.user_id = :user_id
    GROUP BY chosen.id
)
SELECT
    chosen.user_id, chosen.id, chosen.updated_at, chosen.ttl, chosen.has_expired,
    coalesce(counted.parts, 0) AS parts, coalesce(counted.bytes, 0) AS bytes
FROM chosen
LEFT JOIN counted USING (id)
