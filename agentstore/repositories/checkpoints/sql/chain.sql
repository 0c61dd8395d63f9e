-- Follow the parents of a checkpoint until each channel has a value: a page of them.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, namespace text, id text, channels text[], limit bigint
-- Rows: id, parent_id, and found and versions: those channels that have a value there, and had none before; the
--   nearest first
-- Races: none, since it only reads
WITH RECURSIVE chain AS (
    SELECT
        0 AS step,
        c.id,
        c.parent_id,
        ARRAY[]::text[] COLLATE "C" AS found,
        ARRAY[]::text[] COLLATE "C" AS versions,
        :channels COLLATE "C" AS missing
    FROM {schema}.checkpoints AS c
    WHERE
        c.user_id = :user_id AND c.session_id = :session_id AND c.namespace = :namespace AND c.id = :id
    UNION ALL
    SELECT chain.step + 1, c.id, c.parent_id, here.found, here.versions, here.missing
    FROM chain
    INNER JOIN {schema}.checkpoints AS c
        ON
        c.user_id = :user_id AND c.session_id = :session_id AND c.namespace = :namespace
        AND chain.parent_id = c.id
    CROSS JOIN
        LATERAL (
            SELECT
                coalesce(array_agg(m.channel) FILTER (WHERE v.version IS NOT NULL), ARRAY[]::text[]) AS found,
                coalesce(array_agg(v.version) FILTER (WHERE v.version IS NOT NULL), ARRAY[]::text[]) AS versions,
                coalesce(array_agg(m.channel) FILTER (WHERE v.version IS NULL), ARRAY[]::text[]) AS missing
            FROM unnest(chain.missing) AS m (channel)
            LEFT JOIN LATERAL (
                SELECT val.version
                FROM unnest(c.channels, c.versions) AS named (channel, version)
                INNER JOIN {schema}.checkpoint_values AS val
                    ON
                    val.user_id = :user_id AND val.session_id = :session_id AND val.namespace = :namespace
                    AND named.channel = val.channel AND named.version = val.version
                WHERE named.channel = m.channel
                LIMIT 1
            ) AS v ON TRUE
        ) AS here
    WHERE chain.missing <> ARRAY[]::text[] AND chain.step < :limit
)
SELECT id, parent_id, found, versions
FROM chain
WHERE step > 0
ORDER BY step
