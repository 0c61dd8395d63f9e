-- Find the memories of a user whose words match a query best.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, min_score float8, limit bigint
-- Rows: score, session_id, seq, time, is_match, prior, payload, kind, valid_until, namespace; known and selective, the
--   positions of the terms that match any memory, and of those that are selective. The best first, then the newest.
-- Races: none, since it only reads
WITH
-- include: word_scores.sql
found AS (
    SELECT score, session_id, seq, time, is_match, prior
    FROM word_matches
    WHERE score >= :min_score
    ORDER BY score DESC, time DESC, session_id, seq DESC
    LIMIT (SELECT :limit)
)
SELECT
    found.score, found.session_id, found.seq, found.time, found.is_match, found.prior,
    stored.payload, stored.kind, stored.valid_until, stored.namespace,
    (SELECT array_agg(df.position) FROM df) AS known,
    (
        SELECT array_agg(df.position)
        FROM df
        CROSS JOIN size
        WHERE size.count >= {ranking.SELECTIVE_FROM} AND df.count <= size.count * {ranking.SELECTIVE}
    ) AS selective
FROM found
JOIN LATERAL (
    SELECT payload::text AS payload, kind, valid_until, namespace
    FROM {schema}.memories
    WHERE user_id = :user_id AND session_id = found.session_id AND seq = found.seq
    LIMIT 1
) AS stored ON TRUE
ORDER BY found.score DESC, found.time DESC, found.session_id, found.seq DESC
