-- Delete those heads of states of a user that are still old and not locked, with their state rounds.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: one: the number of heads of states, the number of their state rounds, and the bytes of those
-- Races: what is locked, or was written to meanwhile, is not deleted
WITH chosen AS MATERIALIZED (
    SELECT session_id AS id
    FROM {schema}.state_heads
    WHERE user_id = :user_id AND session_id = ANY(:ids)
        AND (
            updated_at < :before
            OR coalesce(now() - updated_at >= {settings.state_ttl}::bigint * interval '1 second', FALSE)
        )
    ORDER BY session_id
    FOR UPDATE SKIP LOCKED
),
deleted AS (
    DELETE FROM {schema}.state_heads AS r
    WHERE r.user_id = :user_id AND r.session_id = ANY(ARRAY(SELECT chosen.id FROM chosen))
    RETURNING 1
),
counted AS (
    SELECT
        count(*) AS parts,
        coalesce(sum(coalesce(pg_column_size(part.packed), pg_column_size(part.payload))), 0) AS bytes
    FROM chosen
    JOIN {schema}.state_rounds AS part ON chosen.id = part.session_id AND part.user_id = :user_id
)
SELECT (SELECT count(*) FROM chosen) AS rows, counted.parts, counted.bytes
FROM counted
