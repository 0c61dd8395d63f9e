-- List the next memories of a user after a key, with the payloads of those that have no vector of an embedder.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, after_session text, after bigint, embedder text, limit bigint
-- Rows: user_id, session_id, seq; id and payload, NULL for a memory that has a vector; by key
-- Races: none, since it only reads
WITH keys AS MATERIALIZED (
    SELECT user_id, session_id, seq
    FROM {schema}.memories
    WHERE user_id = :user_id AND (session_id, seq) > (:after_session, :after)
    ORDER BY user_id, session_id, seq
    LIMIT :limit
)
SELECT keys.user_id, keys.session_id, keys.seq, unembedded.id, unembedded.payload
FROM keys
LEFT JOIN LATERAL (
    SELECT m.id, m.payload::text AS payload
    FROM {schema}.memories AS m
    WHERE m.user_id = keys.user_id
        AND m.session_id = keys.session_id
        AND m.seq = keys.seq
        AND NOT EXISTS (
            SELECT 1
            FROM {schema}.memory_vectors AS v
            WHERE v.user_id = keys.user_id
                AND v.session_id = keys.session_id
                AND v.seq = keys.seq
                AND v.embedder = :embedder
        )
    LIMIT 1
) AS unembedded ON TRUE
ORDER BY keys.user_id, keys.session_id, keys.seq
