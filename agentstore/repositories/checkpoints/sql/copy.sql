-- Copy the checkpoints, values and writes of a session into another one; existing ones remain as they are.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, target_session text
-- Rows: one: has_others: there are other values of the same versions, and nothing was copied
-- Races: everything is read from one snapshot. The head of the target must be locked.
WITH others AS MATERIALIZED (
    SELECT count(*) AS others
    FROM {schema}.checkpoint_values AS v
    INNER JOIN {schema}.checkpoint_values AS t
        ON v.namespace = t.namespace AND v.channel = t.channel AND v.version = t.version
    WHERE
        v.user_id = :user_id AND v.session_id = :session_id AND t.user_id = :user_id AND t.session_id = :target_session
        AND (v.type, v.size, v.data, v.sources, v.pieces)
        IS DISTINCT FROM (t.type, t.size, t.data, t.sources, t.pieces)
),
copied_checkpoints AS (
    INSERT INTO {schema}.checkpoints (
        user_id, session_id, namespace, id, parent_id, run_id, type, size, data, metadata_type, metadata, channels,
        versions, deltas, saved_at
    )
    SELECT
        :user_id, :target_session, c.namespace, c.id, c.parent_id, c.run_id, c.type, c.size, c.data, c.metadata_type,
        c.metadata, c.channels, c.versions, c.deltas, c.saved_at
    FROM others, {schema}.checkpoints AS c
    WHERE others.others = 0 AND c.user_id = :user_id AND c.session_id = :session_id
    ON CONFLICT (user_id, session_id, namespace, id) DO NOTHING
    RETURNING id
),
copied_values AS (
    INSERT INTO {schema}.checkpoint_values (
        user_id, session_id, namespace, channel, version, type, size, data, sources, pieces
    )
    SELECT :user_id, :target_session, v.namespace, v.channel, v.version, v.type, v.size, v.data, v.sources, v.pieces
    FROM others, {schema}.checkpoint_values AS v
    WHERE others.others = 0 AND v.user_id = :user_id AND v.session_id = :session_id
    ON CONFLICT (user_id, session_id, namespace, channel, version) DO NOTHING
    RETURNING version
),
copied_writes AS (
    INSERT INTO {schema}.checkpoint_writes (
        user_id, session_id, namespace, checkpoint_id, task_id, number, task_path, channel, type, size, data
    )
    SELECT
        :user_id, :target_session, w.namespace, w.checkpoint_id, w.task_id, w.number, w.task_path, w.channel, w.type,
        w.size, w.data
    FROM others, {schema}.checkpoint_writes AS w
    WHERE others.others = 0 AND w.user_id = :user_id AND w.session_id = :session_id
    ON CONFLICT (user_id, session_id, namespace, checkpoint_id, task_id, number) DO NOTHING
    RETURNING number
)
SELECT
    others > 0 AS has_others, (SELECT count(*) FROM copied_checkpoints) AS checkpoints,
    (SELECT count(*) FROM copied_values) AS copied, (SELECT count(*) FROM copied_writes) AS writes
FROM others
