-- Delete those sessions of a user that are still old and not locked, with their messages.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: one: the number of sessions, the number of their messages, and the bytes of those
-- Races: what is locked, or was written to meanwhile, is not deleted
WITH chosen AS MATERIALIZED (
    SELECT id
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
        count(*) AS parts,
        coalesce(sum(pg_column_size(part.payload)), 0) AS bytes
    FROM chosen
    JOIN {schema}.messages AS part ON chosen.id = part.session_id AND part.user_id = :user_id
)
SELECT (SELECT count(*) FROM chosen) AS rows, counted.parts, counted.bytes
FROM counted
