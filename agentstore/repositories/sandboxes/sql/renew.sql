-- Renew the leases of sandboxes of one user.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_ids text[], types text[], generations bigint[], lease_time interval
-- Rows: session_id, type, generation, state of the rows that still have the given generation
-- Races: rows are locked in the order of the key, as in every statement that locks several
--
-- The lease of a sandbox that is ending is left alone: the process that ends it renews it, and if that process dies the
-- lease must expire.
WITH locked AS MATERIALIZED (
    SELECT session_id, type, CASE WHEN state = 'ending' THEN lease_until ELSE now() + :lease_time END AS lease_until
    FROM {schema}.sandboxes
    WHERE user_id = :user_id
        AND (session_id, type, generation) IN (
            SELECT held.session_id, held.type, held.generation
            FROM unnest(:session_ids, :types, :generations) AS held (session_id, type, generation)
        )
    ORDER BY session_id, type
    FOR UPDATE
)
UPDATE {schema}.sandboxes
SET lease_until = locked.lease_until
FROM locked
WHERE user_id = :user_id AND sandboxes.session_id = locked.session_id AND sandboxes.type = locked.type
RETURNING sandboxes.session_id, sandboxes.type, sandboxes.generation, sandboxes.state
