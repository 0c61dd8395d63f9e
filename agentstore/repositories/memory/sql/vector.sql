-- Find the memories of a user that are nearest in meaning to a query.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, role text, kind text, labels text, since timestamptz, until timestamptz,
--   valid_at timestamptz, min_score float8, limit bigint
-- Rows: score, which is the cosine similarity, session_id, seq, time, is_match, which is always true, payload, kind,
--   valid_until, namespace; the best first, then the newest
-- Races: none, since it only reads
WITH
-- include: similarities.sql
nearest AS (
    -- In order, and OFFSET 0 keeps it so: the join to it stops as soon as it has enough rows.
    SELECT session_id, seq, similarity
    FROM similarities
    ORDER BY similarity DESC, session_id, seq
    OFFSET 0
),
found AS (
    SELECT nearest.similarity AS score, nearest.session_id, nearest.seq, m.time
    FROM nearest
    JOIN LATERAL (
        -- LIMIT 1 makes the planner use the whole key, whatever it estimates about the user.
        SELECT role, time, kind, valid_from, valid_until, lexemes
        FROM {schema}.memories
        WHERE user_id = :user_id AND session_id = nearest.session_id AND seq = nearest.seq
        LIMIT 1
    ) AS m ON TRUE
    WHERE nearest.similarity >= :min_score
        AND (:role IS NULL OR m.role = :role)
        AND (:kind IS NULL OR m.kind = :kind)
        AND (:labels IS NULL OR m.lexemes @@ (SELECT :labels::tsquery))
        AND (:since IS NULL OR m.time >= :since)
        AND (:until IS NULL OR m.time < :until)
        AND (m.valid_from IS NULL OR m.valid_from <= coalesce(:valid_at, now()))
        AND (m.valid_until IS NULL OR m.valid_until > coalesce(:valid_at, now()))
    ORDER BY nearest.similarity DESC, m.time DESC, nearest.session_id, nearest.seq DESC
    LIMIT :limit
)
SELECT
    found.score, found.session_id, found.seq, found.time, TRUE AS is_match,
    stored.payload, stored.kind, stored.valid_until, stored.namespace
FROM found
JOIN LATERAL (
    SELECT payload::text AS payload, kind, valid_until, namespace
    FROM {schema}.memories
    WHERE user_id = :user_id AND session_id = found.session_id AND seq = found.seq
    LIMIT 1
) AS stored ON TRUE
ORDER BY found.score DESC, found.time DESC, found.session_id, found.seq DESC
