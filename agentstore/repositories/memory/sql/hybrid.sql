-- Find the memories of a user that match a query best by words and meaning.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, role text, kind text, labels text, since timestamptz, until timestamptz,
--   valid_at timestamptz, words text[], other_speaker float8, weight float8, nearest bigint, min_score float8,
--   limit bigint
-- Rows: score, session_id, seq, time, is_match, payload, kind, valid_until, namespace; the best first, then the newest
-- Races: none, since it only reads
--
-- The scores are those of agentstore.search.ranking.fused. `weight` is the share of the words in the score, `nearest`
-- the number of memories that are ranked besides those that have some of the words.
WITH
-- include: word_scores.sql
-- include: similarities.sql
nearest AS (
    -- In order, and OFFSET 0 keeps it so: the join to it stops as soon as it has enough rows.
    SELECT session_id, seq, similarity
    FROM similarities
    ORDER BY similarity DESC, session_id, seq
    OFFSET 0
),
vector_matches AS MATERIALIZED (
    SELECT nearest.session_id, nearest.seq, m.time, factors.prior, nearest.similarity
    FROM nearest
    JOIN LATERAL (
        SELECT
            role, is_question, question_share, speaker, importance, time, kind, valid_from, valid_until, lexemes
        FROM {schema}.memories
        WHERE user_id = :user_id AND session_id = nearest.session_id AND seq = nearest.seq
        LIMIT 1
    ) AS m ON TRUE
    JOIN LATERAL (
        SELECT
            CASE
                WHEN m.kind = 'message'
                    THEN CASE WHEN m.role <> 'user' THEN :other_speaker ELSE 1 END
                        * CASE WHEN string_to_array(m.speaker, ' ') <@ :words THEN {ranking.NAMED_SPEAKER} ELSE 1 END
                        * (
                            1 - {ranking.QUESTION}
                            * coalesce(m.question_share, CASE WHEN m.is_question THEN {ranking.FORMER_QUESTION} END, 0)
                            / 100
                        )
                -- In this form: Postgres refuses a product that underflows, as m.importance * 0.5 may.
                ELSE 1 + (m.importance * 2 - 1) * (1 - {ranking.MIN_IMPORTANCE})
            END AS prior
    ) AS factors ON TRUE
    WHERE (:role IS NULL OR m.role = :role)
        AND (:kind IS NULL OR m.kind = :kind)
        AND (:labels IS NULL OR m.lexemes @@ (SELECT :labels::tsquery))
        AND (:since IS NULL OR m.time >= :since)
        AND (:until IS NULL OR m.time < :until)
        AND (m.valid_from IS NULL OR m.valid_from <= coalesce(:valid_at, now()))
        AND (m.valid_until IS NULL OR m.valid_until > coalesce(:valid_at, now()))
    ORDER BY nearest.similarity DESC, nearest.session_id, nearest.seq
    LIMIT :nearest
),
matches AS (
    -- Combined by UNION ALL and GROUP BY instead of a join: a planner that estimates a row or two for each kind would
    -- choose a nested loop over all of them.
    SELECT
        session_id, seq, max(time) AS time, max(prior) AS prior, max(score) AS score, max(similarity) AS similarity,
        bool_or(is_match) AS is_match
    FROM (
        SELECT session_id, seq, time, prior, score, NULL::float8 AS similarity, is_match FROM word_matches
        UNION ALL
        SELECT session_id, seq, time, prior, NULL AS score, similarity, TRUE AS is_match FROM vector_matches
        UNION ALL
        -- The similarity of memories that were found by their words alone.
        SELECT session_id, seq, NULL AS time, NULL AS prior, NULL AS score, similarity, NULL AS is_match
        FROM similarities
    ) AS parts
    GROUP BY session_id, seq
    HAVING count(prior) > 0
),
bounds AS MATERIALIZED (
    SELECT
        (SELECT max(score) FROM word_matches) AS best,
        (SELECT min(similarity) FROM similarities) AS least,
        (SELECT max(similarity) FROM similarities) AS greatest
),
fused AS (
    SELECT
        matches.session_id, matches.seq, matches.time, matches.is_match,
        round(
            (:weight * scaled.words + (1 - :weight) * scaled.meaning * matches.prior) * {ranking.PRECISION}
        ) / {ranking.PRECISION} AS score
    FROM matches
    CROSS JOIN bounds
    JOIN LATERAL (
        SELECT
            coalesce(matches.score / nullif(bounds.best, 0), 0) AS words,
            CASE
                WHEN matches.similarity IS NULL THEN 0
                WHEN bounds.greatest > bounds.least
                    THEN (matches.similarity - bounds.least) / (bounds.greatest - bounds.least)
                ELSE 1
            END AS meaning
    ) AS scaled ON TRUE
),
found AS (
    SELECT score, session_id, seq, time, is_match
    FROM fused
    WHERE score >= :min_score
    ORDER BY score DESC, time DESC, session_id, seq DESC
    LIMIT :limit
)
SELECT
    found.score, found.session_id, found.seq, found.time, found.is_match,
    stored.payload, stored.kind, stored.valid_until, stored.namespace
FROM found
JOIN LATERAL (
    SELECT payload::text AS payload, kind, valid_until, namespace
    FROM {schema}.memories
    WHERE user_id = :user_id AND session_id = found.session_id AND seq = found.seq
    LIMIT 1
) AS stored ON TRUE
ORDER BY found.score DESC, found.time DESC, found.session_id, found.seq DESC
