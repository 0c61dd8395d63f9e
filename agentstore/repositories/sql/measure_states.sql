-- Count those heads of states of a user that are old, and their state rounds: what prune_states.sql would delete.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, ids text[], before timestamptz
-- Rows: one: the number of heads of states, the number of their state rounds, and the bytes of those
-- Races: none, since it only reads
WITH chosen AS MATERIALIZED (
    SELECT session_id AS id
    FROM {schema}.state_heads
    WHERE user_id = :user_id AND session_id = ANY(:ids)
        AND (
            updated_at < :before
            OR coalesce(now() - updated_at >= {settings.state_ttl}::bigint * interval '1 second', FALSE)
        )
    ORDER BY session_id
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
