-- Delete the values of a session that no checkpoint has, and that no value of one consists of.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text
-- Rows: the version of each
-- Races: none: the head must be locked. It is executed after the deletion of checkpoints, in its transaction.
WITH used AS MATERIALIZED (
    SELECT DISTINCT c.namespace, named.channel, named.version
    FROM {schema}.checkpoints AS c, unnest(c.channels, c.versions) AS named (channel, version)
    WHERE c.user_id = :user_id AND c.session_id = :session_id
),
needed AS MATERIALIZED (
    SELECT used.namespace, used.channel, used.version
    FROM used
    UNION
    SELECT v.namespace, v.channel, named.version
    FROM {schema}.checkpoint_values AS v
    INNER JOIN used ON v.namespace = used.namespace AND v.channel = used.channel AND v.version = used.version
    CROSS JOIN unnest(v.sources) AS named (version)
    WHERE v.user_id = :user_id AND v.session_id = :session_id
)
DELETE FROM {schema}.checkpoint_values AS v
WHERE
    v.user_id = :user_id AND v.session_id = :session_id
    AND NOT EXISTS (
        SELECT
        FROM needed
        WHERE needed.namespace = v.namespace AND needed.channel = v.channel AND needed.version = v.version
    )
RETURNING v.version
