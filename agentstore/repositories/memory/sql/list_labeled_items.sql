-- Return the items of a user that have some labels, newest first.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, labels text, kind text, with_invalid boolean, expired text[], at timestamptz,
--   after_id text, limit bigint
-- Rows: session_id, id, payload, kind, valid_until, namespace, time
-- Races: none, since it only reads
--
-- `labels` is a tsquery. They are those after the item `after_id` of the time `at`, unless that is null.
WITH found AS MATERIALIZED (
    SELECT m.session_id, m.seq, m.time, m.id
    FROM (
        -- Matched by the lexemes alone, as in word_scores.sql.
        SELECT user_id, session_id, seq, id, time, kind, valid_from, valid_until
        FROM {schema}.memories
        WHERE lexemes @@ (SELECT :labels::tsquery)
        -- citus: AND user_id = :user_id
        OFFSET 0
    ) AS m
    WHERE m.user_id = :user_id
        AND m.session_id <> ALL((SELECT :expired)::text[])
        AND m.kind <> 'message'
        AND (:kind IS NULL OR m.kind = :kind)
        AND (
            :with_invalid
            OR (
                (m.valid_from IS NULL OR m.valid_from <= now())
                AND (m.valid_until IS NULL OR m.valid_until > now())
            )
        )
        AND (:at IS NULL OR (m.time, m.id) < (:at, :after_id))
    ORDER BY m.time DESC, m.id DESC
    LIMIT :limit
)
SELECT
    found.session_id, found.id, stored.payload, stored.kind, stored.valid_until, stored.namespace, found.time
FROM found
JOIN LATERAL (
    SELECT payload::text AS payload, kind, valid_until, namespace
    FROM {schema}.memories
    WHERE user_id = :user_id AND session_id = found.session_id AND seq = found.seq
    LIMIT 1
) AS stored ON TRUE
ORDER BY found.time DESC, found.id DESC
