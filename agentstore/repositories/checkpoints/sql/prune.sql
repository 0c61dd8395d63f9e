-- Delete the checkpoints of a session, with their writes, but the last one of each namespace and what it needs.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text
-- Rows: one: the number of checkpoints deleted
-- Races: none: the head must be locked
--
-- A value that is computed from writes needs the ancestors, with their writes, up to one that has the value stored.
WITH RECURSIVE last AS MATERIALIZED (
    SELECT DISTINCT ON (c.namespace) c.namespace, c.id, c.parent_id, c.channels, c.versions, c.deltas
    FROM {schema}.checkpoints AS c
    WHERE c.user_id = :user_id AND c.session_id = :session_id
    ORDER BY c.namespace, c.id DESC
),
needed AS (
    SELECT
        last.namespace, last.id, last.parent_id,
        ARRAY(
            SELECT named.channel
            FROM unnest(last.channels, last.versions) AS named (channel, version)
            WHERE
                named.channel = ANY(last.deltas)
                AND NOT EXISTS (
                    SELECT
                    FROM {schema}.checkpoint_values AS v
                    WHERE
                        v.user_id = :user_id AND v.session_id = :session_id AND v.namespace = last.namespace
                        AND v.channel = named.channel AND v.version = named.version
                )
        ) AS channels
    FROM last
    UNION
    SELECT
        c.namespace, c.id, c.parent_id,
        ARRAY(
            SELECT missing.channel
            FROM unnest(needed.channels) AS missing (channel)
            WHERE
                NOT EXISTS (
                    SELECT
                    FROM unnest(c.channels, c.versions) AS named (channel, version)
                    INNER JOIN {schema}.checkpoint_values AS v
                        ON
                        v.user_id = :user_id AND v.session_id = :session_id AND v.namespace = c.namespace
                        AND named.channel = v.channel AND named.version = v.version
                    WHERE named.channel = missing.channel
                )
        ) AS channels
    FROM needed INNER JOIN {schema}.checkpoints AS c
        ON
        c.user_id = :user_id AND c.session_id = :session_id AND needed.namespace = c.namespace
        AND needed.parent_id = c.id
    WHERE needed.channels <> ARRAY[]::text[]
),
deleted AS (
    DELETE FROM {schema}.checkpoints AS c
    WHERE
        c.user_id = :user_id AND c.session_id = :session_id
        AND NOT EXISTS (SELECT FROM needed WHERE needed.namespace = c.namespace AND needed.id = c.id)
    RETURNING c.namespace, c.id
),
deleted_writes AS (
    DELETE FROM {schema}.checkpoint_writes AS w
    USING deleted
    WHERE
        w.user_id = :user_id AND w.session_id = :session_id AND w.namespace = deleted.namespace
        AND w.checkpoint_id = deleted.id
    RETURNING w.number
)
SELECT count(*) AS checkpoints, (SELECT count(*) FROM deleted_writes) AS writes
FROM deleted
