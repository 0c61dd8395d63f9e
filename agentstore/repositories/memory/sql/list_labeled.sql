-- Return the memories of a user that have some labels, from the offset on, by session and position.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, labels text, wanted_sessions text[], excluded text[], after_session text, after bigint,
--   offset bigint, limit bigint
-- Rows: session_id, seq, payload, kind, valid_until, namespace, time
-- Races: none, since it only reads
--
-- `labels` is a tsquery. They are of `wanted_sessions`, or of all sessions if that is null, not of those of `excluded`,
-- after the position `after` of the session `after_session`.
WITH found AS MATERIALIZED (
    SELECT session_id, seq
    FROM (
        -- Matched by the lexemes alone, as in word_scores.sql.
        SELECT user_id, session_id, seq
        FROM {schema}.memories
        WHERE lexemes @@ (SELECT :labels::tsquery)
        -- citus: AND user_id = :user_id
        OFFSET 0
    ) AS m
    WHERE m.user_id = :user_id
        AND m.session_id <> ALL((SELECT :excluded)::text[])
        AND ((SELECT :wanted_sessions) IS NULL OR m.session_id = ANY((SELECT :wanted_sessions)::text[]))
        AND (m.session_id, m.seq) > (:after_session, :after)
    ORDER BY m.session_id, m.seq
    LIMIT :limit OFFSET :offset
)
SELECT found.session_id, found.seq, stored.payload, stored.kind, stored.valid_until, stored.namespace, stored.time
FROM found
JOIN LATERAL (
    SELECT payload::text AS payload, kind, valid_until, namespace, time
    FROM {schema}.memories
    WHERE user_id = :user_id AND session_id = found.session_id AND seq = found.seq
    LIMIT 1
) AS stored ON TRUE
ORDER BY found.session_id, found.seq
