-- Delete those sessions of a user that are still old and not locked, with their messages.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, with_counts boolean
-- Rows: user_id, id, updated_at, ttl, has_expired, parts (the number of messages), bytes (of those); one a session
-- Races: what is locked, or was written to meanwhile, is not deleted
--
-- Without `with_counts` those numbers are 0: steps have deleted the rows, whose entries are still in the index.
WITH
-- include: lock_old_sessions.sql
counted AS MATERIALIZED (
    -- Before the deletion, since on Citus what follows it does not see the rows.
    SELECT chosen.user_id, chosen.id, chosen.updated_at, chosen.ttl, chosen.has_expired, part.parts, part.bytes
    FROM chosen
    CROSS JOIN LATERAL (
        -- An aggregate of each, which is looked up in the index. A join might read the rows of all that the user has.
        SELECT count(*) AS parts, sum(pg_column_size(p.payload)) AS bytes
        FROM {schema}.messages AS p
        WHERE p.user_id = :user_id AND p.session_id = chosen.id AND :with_counts
    ) AS part
),
deleted AS (
    DELETE FROM {schema}.sessions AS r
    WHERE r.user_id = :user_id AND r.id = ANY(ARRAY(SELECT counted.id FROM counted))
    RETURNING 1
)
SELECT user_id, id, updated_at, ttl, has_expired, parts, coalesce(bytes, 0) AS bytes
FROM counted
