-- Store writes that are pending at a checkpoint, and create the session's head, and the user, if missing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, new_epoch bigint, namespace text, checkpoint_id text, task_ids text[],
--   numbers bigint[], task_paths text[], channels text[], types text[], sizes bigint[], data bytea[]
-- Rows: the number of each write that was stored or replaced
-- Races: 23503 if the user or the head is deleted meanwhile
WITH inserted_user AS (
    INSERT INTO {schema}.users (id)
    SELECT :user_id
    WHERE NOT EXISTS (
            SELECT FROM {schema}.checkpoint_heads WHERE user_id = :user_id AND session_id = :session_id
        )
    ON CONFLICT (id) DO NOTHING
    RETURNING id
),
inserted_head AS (
    INSERT INTO {schema}.checkpoint_heads (user_id, session_id, epoch)
    SELECT :user_id, :session_id, :new_epoch
    FROM (SELECT count(*) FROM inserted_user) AS owner
    WHERE NOT EXISTS (
            SELECT FROM {schema}.checkpoint_heads WHERE user_id = :user_id AND session_id = :session_id
        )
    ON CONFLICT (user_id, session_id) DO NOTHING
    RETURNING epoch
)
INSERT INTO {schema}.checkpoint_writes AS written (
    user_id, session_id, namespace, checkpoint_id, task_id, number, task_path, channel, type, size, data
)
SELECT
    :user_id, :session_id, :namespace, :checkpoint_id, new.task_id, new.number, new.task_path, new.channel, new.type,
    new.size, new.data
FROM (SELECT count(*) FROM inserted_head) AS head, unnest(
        :task_ids, :numbers, :task_paths, :channels, :types, :sizes, :data
    ) AS new (task_id, number, task_path, channel, type, size, data)
ON CONFLICT (user_id, session_id, namespace, checkpoint_id, task_id, number) DO UPDATE
    SET
        task_path = excluded.task_path,
        channel = excluded.channel,
        type = excluded.type,
        size = excluded.size,
        data = excluded.data
    WHERE excluded.number < 0
RETURNING written.number
