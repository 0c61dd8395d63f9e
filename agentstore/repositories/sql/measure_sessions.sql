-- Count those sessions of a user that are old, and their messages: what prune_sessions.sql would delete.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: one: the number of sessions, the number of their messages, and the bytes of those
-- Races: none, since it only reads
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
