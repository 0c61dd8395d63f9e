-- Return the documents of a user that have some labels and have not expired, newest first.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, labels text, expired text[], at timestamptz, after_id text, limit bigint,
--   offset bigint
-- Rows: id, payload, kind, valid_until, namespace, time, updated_at
-- Races: none, since it only reads
--
-- `labels` is a tsquery. They are those after the document `after_id` of the time `at`.
WITH found AS MATERIALIZED (
    SELECT m.session_id, m.time, m.id
    FROM (
        -- Matched by the lexemes alone, as in word_scores.sql.
        SELECT user_id, session_id, seq, id, time, kind, valid_until
        FROM {schema}.memories
        WHERE lexemes @@ (SELECT :labels::tsquery)
        -- citus: AND user_id = :user_id
        OFFSET 0
    ) AS m
    WHERE m.user_id = :user_id
        AND m.kind = 'document' AND m.id = m.session_id
        AND m.session_id <> ALL((SELECT :expired)::text[])
        AND (m.valid_until IS NULL OR m.valid_until > now())
        AND (m.time, m.id) < (:at, :after_id)
    ORDER BY m.time DESC, m.id DESC
    LIMIT :limit OFFSET :offset
)
SELECT
    found.id, stored.payload, stored.kind, stored.valid_until, stored.namespace, found.time, stored.updated_at
FROM found
JOIN LATERAL (
    SELECT m.payload::text AS payload, m.kind, m.valid_until, m.namespace, b.updated_at
    FROM {schema}.memories AS m
    JOIN {schema}.memory_buckets AS b ON m.user_id = b.user_id AND m.session_id = b.session_id
    WHERE m.user_id = :user_id AND m.session_id = found.session_id AND m.seq = 1
        AND b.user_id = :user_id AND b.session_id = found.session_id
    LIMIT 1
) AS stored ON TRUE
ORDER BY found.time DESC, found.id DESC
