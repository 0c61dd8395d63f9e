-- Read checkpoints of a namespace, by default the last one, with their values and writes.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, namespace text, ids text[]
-- Rows: kind, and what is of this kind: 0 a checkpoint, with the epoch of the session as number; 1 a value, or a
--   source of one, by channel and version; 2 a write that is pending at the checkpoint `id`
-- Races: none, since it only reads
--
-- Each value is looked up by its key: LIMIT 1 keeps the planner from reading those of the whole session instead.
WITH chosen AS MATERIALIZED (
    SELECT
        c.id, c.parent_id, c.run_id, c.type, c.size, c.data, c.metadata_type, c.metadata, c.channels, c.versions,
        c.deltas
    FROM {schema}.checkpoints AS c
    WHERE
        c.user_id = :user_id AND c.session_id = :session_id AND c.namespace = :namespace
        AND c.id = ANY(
            coalesce(
                :ids,
                ARRAY(
                    SELECT l.id
                    FROM {schema}.checkpoints AS l
                    WHERE l.user_id = :user_id AND l.session_id = :session_id AND l.namespace = :namespace
                    ORDER BY l.id DESC
                    LIMIT 1
                )
            )
        )
),
used AS MATERIALIZED (
    SELECT DISTINCT named.channel, named.version
    FROM chosen, unnest(chosen.channels, chosen.versions) AS named (channel, version)
),
found AS MATERIALIZED (
    SELECT used.channel, used.version, v.type, v.size, v.data, v.sources, v.pieces
    FROM used CROSS JOIN LATERAL (
        SELECT val.type, val.size, val.data, val.sources, val.pieces
        FROM {schema}.checkpoint_values AS val
        WHERE
            val.user_id = :user_id AND val.session_id = :session_id AND val.namespace = :namespace
            AND val.channel = used.channel AND val.version = used.version
        LIMIT 1
    ) AS v
),
sources AS MATERIALIZED (
    SELECT DISTINCT found.channel, named.version
    FROM found, unnest(found.sources) AS named (version)
    WHERE NOT EXISTS (SELECT FROM used WHERE used.channel = found.channel AND used.version = named.version)
)
SELECT
    0 AS kind, c.id, c.parent_id, NULL AS channel, NULL AS version, c.type, c.size, c.data, NULL AS sources,
    NULL AS pieces, c.metadata_type, c.metadata, c.channels, c.versions, c.run_id, c.deltas, NULL AS task_id,
    NULL AS task_path,
    (
        SELECT h.epoch
        FROM {schema}.checkpoint_heads AS h
        WHERE h.user_id = :user_id AND h.session_id = :session_id
    ) AS number
FROM chosen AS c
UNION ALL
SELECT
    1, NULL, NULL, found.channel, found.version, found.type, found.size, found.data, found.sources, found.pieces,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found
UNION ALL
SELECT
    1, NULL, NULL, sources.channel, sources.version, v.type, v.size, v.data, v.sources, v.pieces, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL
FROM sources CROSS JOIN
    LATERAL (
        SELECT val.type, val.size, val.data, val.sources, val.pieces
        FROM {schema}.checkpoint_values AS val
        WHERE
            val.user_id = :user_id AND val.session_id = :session_id AND val.namespace = :namespace
            AND val.channel = sources.channel AND val.version = sources.version
        LIMIT 1
    ) AS v
UNION ALL
SELECT
    2, w.checkpoint_id, NULL, w.channel, NULL, w.type, w.size, w.data, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, w.task_id, w.task_path, w.number
FROM chosen AS c INNER JOIN {schema}.checkpoint_writes AS w
    ON
    w.user_id = :user_id AND w.session_id = :session_id AND w.namespace = :namespace
    AND c.id = w.checkpoint_id
