-- Copy the checkpoints, values and writes of a session into one of another user; existing ones remain as they are.
--
-- Scope: all
-- Repeatable: no
-- Parameters: source_user text, session_id text, target_user text, target_session text
-- Rows: one: has_others: there are other values of the same versions, and nothing was copied
-- Races: the heads of the source and of the target must be locked.
--
-- Citus joins rows of two users only as those of CTEs, each of which one server reads.
WITH existing AS MATERIALIZED (
    SELECT t.namespace, t.channel, t.version, t.type, t.size, t.data, t.sources, t.pieces
    FROM {schema}.checkpoint_values AS t
    WHERE t.user_id = :target_user AND t.session_id = :target_session
),
given AS MATERIALIZED (
    SELECT v.namespace, v.channel, v.version, v.type, v.size, v.data, v.sources, v.pieces
    FROM {schema}.checkpoint_values AS v
    WHERE v.user_id = :source_user AND v.session_id = :session_id
),
others AS MATERIALIZED (
    SELECT count(*) AS others
    FROM given AS v
    INNER JOIN existing AS t ON v.namespace = t.namespace AND v.channel = t.channel AND v.version = t.version
    WHERE (v.type, v.size, v.data, v.sources, v.pieces)
        IS DISTINCT FROM (t.type, t.size, t.data, t.sources, t.pieces)
),
copied_checkpoints AS (
    INSERT INTO {schema}.checkpoints (
        user_id, session_id, namespace, id, parent_id, run_id, type, size, data, metadata_type, metadata, channels,
        versions, deltas, saved_at
    )
    SELECT
        :target_user,
        :target_session,
        c.namespace,
        c.id,
        c.parent_id,
        c.run_id,
        c.type,
        c.size,
        c.data,
        c.metadata_type,
        c.metadata, c.channels, c.versions, c.deltas, c.saved_at
    FROM others, {schema}.checkpoints AS c
    WHERE others.others = 0 AND c.user_id = :source_user AND c.session_id = :session_id
    ON CONFLICT (user_id, session_id, namespace, id) DO NOTHING
    RETURNING id
),
copied_values AS (
    INSERT INTO {schema}.checkpoint_values (
        user_id, session_id, namespace, channel, version, type, size, data, sources, pieces
    )
    SELECT :target_user, :target_session, v.namespace, v.channel, v.version, v.type, v.size, v.data, v.sources, v.pieces
    FROM others, given AS v
    WHERE others.others = 0
    ON CONFLICT (user_id, session_id, namespace, channel, version) DO NOTHING
    RETURNING version
),
copied_writes AS (
    INSERT INTO {schema}.checkpoint_writes (
        user_id, session_id, namespace, checkpoint_id, task_id, number, task_path, channel, type, size, data
    )
    SELECT
        :target_user,
        :target_session,
        w.namespace,
        w.checkpoint_id,
        w.task_id,
        w.number,
        w.task_path,
        w.channel,
        w.type,
        w.size, w.data
    FROM others, {schema}.checkpoint_writes AS w
    WHERE others.others = 0 AND w.user_id = :source_user AND w.session_id = :session_id
    ON CONFLICT (user_id, session_id, namespace, checkpoint_id, task_id, number) DO NOTHING
    RETURNING number
)
SELECT
    others > 0 AS has_others, (SELECT count(*) FROM copied_checkpoints) AS checkpoints,
    (SELECT count(*) FROM copied_values) AS copied, (SELECT count(*) FROM copied_writes) AS writes
FROM others
