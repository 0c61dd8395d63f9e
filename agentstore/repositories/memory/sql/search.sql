-- Find the memories of a user whose words match a query best.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, role text, kind text, since timestamptz, until timestamptz, valid_at timestamptz,
--   min_score float8, limit bigint
-- Rows: score, session_id, seq, time, payload, kind, valid_until; known and selective, the positions of the terms that
--   match any memory, and of those that are selective. The best first, then the newest.
-- Races: none, since it only reads
WITH
-- include: word_scores.sql
found AS (
    SELECT scored.score, c.session_id, c.seq, m.time
    FROM candidates AS c
    JOIN LATERAL (
        -- LIMIT 1 makes the planner use the whole key, whatever it estimates about the user.
        SELECT role, is_question, importance, time, kind, valid_from, valid_until
        FROM {schema}.memories
        WHERE user_id = :user_id AND session_id = c.session_id AND seq = c.seq
        LIMIT 1
    ) AS m ON TRUE
    JOIN LATERAL (
        SELECT
            CASE WHEN m.kind = 'message' THEN c.score ELSE c.own END AS words,
            CASE
                WHEN m.kind = 'message'
                    THEN CASE WHEN m.role <> 'user' THEN {ranking.OTHER_SPEAKER} ELSE 1 END
                        * CASE WHEN m.is_question THEN {ranking.QUESTION} ELSE 1 END
                ELSE {ranking.MIN_IMPORTANCE} + m.importance * (1 - {ranking.MIN_IMPORTANCE}) * 2
            END AS prior
    ) AS factors ON TRUE
    JOIN LATERAL (
        SELECT round((factors.words * factors.prior)::numeric, 9)::float8 AS score
    ) AS scored ON TRUE
    WHERE scored.score >= :min_score
        AND (:role IS NULL OR m.role = :role)
        AND (:kind IS NULL OR m.kind = :kind)
        AND (:since IS NULL OR m.time >= :since)
        AND (:until IS NULL OR m.time < :until)
        AND (m.valid_from IS NULL OR m.valid_from <= coalesce(:valid_at, now()))
        AND (m.valid_until IS NULL OR m.valid_until > coalesce(:valid_at, now()))
    ORDER BY scored.score DESC, m.time DESC, c.session_id, c.seq DESC
    LIMIT (SELECT :limit)
)
SELECT
    found.score, found.session_id, found.seq, found.time,
    stored.payload, stored.kind, stored.valid_until,
    (SELECT array_agg(df.position) FROM df) AS known,
    (
        SELECT array_agg(df.position)
        FROM df
        CROSS JOIN size
        WHERE size.count >= {ranking.SELECTIVE_FROM} AND df.count <= size.count * {ranking.SELECTIVE}
    ) AS selective
FROM found
JOIN LATERAL (
    SELECT payload::text AS payload, kind, valid_until
    FROM {schema}.memories
    WHERE user_id = :user_id AND session_id = found.session_id AND seq = found.seq
    LIMIT 1
) AS stored ON TRUE
ORDER BY found.score DESC, found.time DESC, found.session_id, found.seq DESC
