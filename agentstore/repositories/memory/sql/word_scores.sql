-- Find the memories of a user whose words match a query, with their scores.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, queries text[], weights float8[], wanted_sessions text[], excluded text[], role text,
--   kind text, labels text, expired text[], since timestamptz, until timestamptz, valid_at timestamptz,
--   neighbors boolean, words text[], other_speaker float8, coverage float8, limit bigint
-- Rows: session_id, seq, time, score, prior, the factor for role, form and speaker, or for importance, which the score
--   has in it, is_match, whether the memory has a term itself; in no order
-- Races: none, since it only reads
--
-- The scores are those of agentstore.search.ranking. The index is scanned once for each term, and no tsvector is read
-- unless there are `labels`: the tsquery of the filter's labels, which the queries contain as well, so that it is for
-- the neighbors of what these find. `expired` are the sessions whose memories have expired, `excluded` these and those
-- that the filters exclude.
-- (SELECT :x) hides a value from the planner, which would otherwise plan each execution for its values. CTEs are not
-- joined to each other on keys whose number the planner cannot estimate.
WITH terms AS MATERIALIZED (
    SELECT given.query::tsquery AS query, given.weight, given.position
    FROM unnest((SELECT :queries), (SELECT :weights)) WITH ORDINALITY AS given (query, weight, position)
),
stored AS MATERIALIZED (
    -- Of a user with many sessions: see count_memories.sql.
    SELECT owner.memories, owner.memory_tokens
    FROM {schema}.users AS owner
    WHERE owner.id = :user_id
        AND CASE
            WHEN owner.memories IS NULL THEN FALSE
            ELSE EXISTS (
                    SELECT FROM {schema}.memory_buckets
                    WHERE user_id = :user_id
                    ORDER BY session_id
                    LIMIT 1 OFFSET {ranking.SUMMED_SESSIONS}
                )
        END
),
summed AS MATERIALIZED (
    SELECT sum(count) AS count, sum(tokens) AS tokens
    FROM (
        SELECT count, tokens
        FROM {schema}.memory_buckets
        WHERE user_id = :user_id AND session_id <> ALL((SELECT :expired)::text[])
        ORDER BY session_id
        -- None if their sums are stored. Because of the limit the planner prefers the index to a parallel scan of the
        -- rows of all users, whose processes would be started even so.
        LIMIT (SELECT CASE WHEN EXISTS (SELECT FROM stored) THEN 0 END)
    ) AS buckets
),
counted AS MATERIALIZED (
    SELECT
        coalesce(stored.memories, summed.count)::float8 AS count,
        coalesce(stored.memory_tokens, summed.tokens)::float8 AS tokens
    FROM summed
    LEFT JOIN stored ON TRUE
),
limits AS MATERIALIZED (
    SELECT
        count,
        coalesce(nullif(tokens / nullif(count, 0), 0), 1) AS average,
        greatest({ranking.COMMON}, ceil({ranking.COMMON_ROOT} * sqrt(count)))::bigint AS common
    FROM counted
),
caps AS MATERIALIZED (
    -- The most matches of a term that are read.
    SELECT
        least(
            {ranking.MAX_HITS} / cardinality((SELECT :queries)),
            greatest(common + 1, {ranking.MAX_COMMON_HITS} / cardinality((SELECT :queries)))
        ) AS most
    FROM limits
),
size AS MATERIALIZED (
    SELECT limits.count, limits.average, least(limits.common, caps.most - 1) AS common
    FROM limits
    CROSS JOIN caps
),
hits AS MATERIALIZED (
    -- Matched by the lexemes alone, which contain the user's hash: with a condition on user_id beside them the planner
    -- would prefer to read all memories of the user. OFFSET 0 keeps the two conditions apart, and the join with size
    -- keeps the planner from choosing a table scan because of the LIMIT.
    SELECT terms.position, terms.weight, matches.session_id, matches.seq, matches.tokens, matches.kind
    FROM terms
    JOIN LATERAL (
        SELECT m.session_id, m.seq, m.tokens, m.kind
        FROM size
        CROSS JOIN (
            SELECT user_id, session_id, seq, tokens, time, kind, valid_from, valid_until
            FROM {schema}.memories
            WHERE lexemes @@ terms.query
            -- citus: AND user_id = :user_id
            OFFSET 0
        ) AS m
        WHERE m.user_id = :user_id
            AND m.session_id <> ALL((SELECT :excluded)::text[])
            AND ((SELECT :wanted_sessions) IS NULL OR m.session_id = ANY((SELECT :wanted_sessions)::text[]))
            AND ((SELECT :since) IS NULL OR m.time >= (SELECT :since))
            AND ((SELECT :until) IS NULL OR m.time < (SELECT :until))
            AND ((SELECT :kind) IS NULL OR m.kind = (SELECT :kind))
            AND (m.valid_from IS NULL OR m.valid_from <= (SELECT coalesce(:valid_at, now())))
            AND (m.valid_until IS NULL OR m.valid_until > (SELECT coalesce(:valid_at, now())))
        LIMIT (SELECT most FROM caps)
    ) AS matches ON TRUE
),
df AS MATERIALIZED (
    SELECT position, weight, count(*) AS count
    FROM hits
    GROUP BY position, weight
),
weighed AS MATERIALIZED (
    -- Of a term with as many matches as are read, others may be unread. It counts as if every memory had it, and beside
    -- other terms not at all, so that equal texts get equal scores.
    SELECT
        df.position,
        CASE
            WHEN df.count < caps.most OR (SELECT min(term.count) FROM df AS term) >= caps.most
                THEN df.weight * ln(1 + (size.count - matched.count + 0.5) / (matched.count + 0.5))
            ELSE 0
        END AS idf
    FROM df
    CROSS JOIN size
    CROSS JOIN caps
    JOIN LATERAL (
        SELECT CASE WHEN df.count >= caps.most THEN size.count ELSE least(df.count, size.count) END AS count
    ) AS matched ON TRUE
    WHERE df.count <= size.common
        OR (SELECT count(*) FROM df AS other WHERE other.count <= size.common) < {ranking.MIN_RARE}
),
scored AS MATERIALIZED (
    SELECT
        hits.position, hits.session_id, hits.seq, hits.kind, weighed.idf,
        weighed.idf * (1 + {ranking.K1})
        / (
            1 + {ranking.K1}
            * (1 - {ranking.B} + {ranking.B} * hits.tokens / greatest(size.average, {ranking.MIN_AVERAGE}))
        ) AS score
    FROM hits
    JOIN weighed USING (position)
    CROSS JOIN size
),
totaled AS MATERIALIZED (
    -- Memories without their neighbors. `covered` is the whole score of one to which none lends.
    SELECT
        session_id, seq, min(kind) AS kind, sum(score) AS score,
        sum(score) * power(coalesce(sum(idf) / (SELECT nullif(sum(idf), 0) FROM weighed), 1), (SELECT :coverage))
            AS covered,
        round(sum(score) * {ranking.PRECISION}) / {ranking.PRECISION} AS total
    FROM scored
    GROUP BY session_id, seq
),
lenders AS MATERIALIZED (
    -- An item stands alone: it neither lends a score to its neighbors nor borrows one.
    SELECT session_id, seq, score
    FROM totaled
    WHERE (SELECT :neighbors)
        AND kind = 'message'
        AND total >= (
            SELECT min(total)
            FROM (SELECT total FROM totaled ORDER BY total DESC LIMIT {ranking.LENDERS}) AS best
        )
),
neighbors AS MATERIALIZED (
    SELECT
        steps.step,
        CASE WHEN steps.step = 0 THEN 1 ELSE steps.weight * least(1, {ranking.TURN} / size.average) END AS weight
    FROM unnest({ranking.STEPS}, {ranking.STEP_WEIGHTS}) AS steps (step, weight)
    CROSS JOIN size
),
wanted AS MATERIALIZED (
    -- The number of candidates.
    SELECT greatest({ranking.CANDIDATES}, (SELECT :limit) * {ranking.CANDIDATES_PER_HIT}) AS count
),
kept AS MATERIALIZED (
    -- What may be a candidate. As many memories as are wanted, if there are so many, have at least the score that is
    -- compared here. What neighbors lend to a memory is at most the sum of their scores. If none lends, its is exact.
    SELECT session_id, seq
    FROM (
        SELECT session_id, seq, score, covered FROM totaled
        UNION ALL
        SELECT lenders.session_id, lenders.seq + neighbors.step, lenders.score * neighbors.weight, NULL
        FROM lenders
        CROSS JOIN neighbors
        WHERE neighbors.step <> 0
    ) AS parts
    GROUP BY session_id, seq
    HAVING CASE WHEN count(*) > count(covered) THEN sum(score) ELSE max(covered) END >= coalesce(
            (
                SELECT covered - 2 / {ranking.PRECISION}
                FROM totaled
                ORDER BY covered DESC
                LIMIT 1 OFFSET (SELECT count - 1 FROM wanted)
            ),
            0
        )
),
lent AS MATERIALIZED (
    -- IS TRUE and OR make the planner look keys up in hash tables, whatever it estimates.
    SELECT
        session_id, seq, max(idf) AS idf, max(score) FILTER (WHERE step = 0) AS own, max(score * weight) AS score
    FROM (
        SELECT
            own.position, own.session_id, own.seq + neighbors.step AS seq, own.idf, own.score, neighbors.step,
            neighbors.weight
        FROM (
            SELECT
                *, ((session_id, seq) IN (SELECT session_id, seq FROM lenders)) IS TRUE AS lends
            FROM scored
        ) AS own
        CROSS JOIN neighbors
        WHERE neighbors.step = 0 OR own.lends
    ) AS parts
    WHERE (SELECT :role) IS NOT NULL
        OR (session_id, seq) IN (SELECT session_id, seq FROM kept)
    GROUP BY position, session_id, seq
),
sums AS (
    -- The scores, and the shares of the question's terms that the memory and its neighbors have, and it alone.
    SELECT
        session_id, seq, sum(score) AS score, sum(own) AS own,
        coalesce(sum(idf) / (SELECT nullif(sum(idf), 0) FROM weighed), 1) AS share,
        coalesce(sum(idf) FILTER (WHERE own IS NOT NULL) / (SELECT nullif(sum(idf), 0) FROM weighed), 1) AS own_share
    FROM lent
    GROUP BY session_id, seq
),
scores AS MATERIALIZED (
    SELECT
        session_id, seq, covered.score, own * power(own_share, (SELECT :coverage)) AS own,
        round(covered.score * {ranking.PRECISION}) / {ranking.PRECISION} AS compared
    FROM sums
    JOIN LATERAL (SELECT sums.score * power(sums.share, (SELECT :coverage)) AS score) AS covered ON TRUE
),
candidates AS (
    -- With a filter on the role all are candidates, since most may not pass it.
    SELECT session_id, seq, score, own
    FROM scores
    WHERE (SELECT :role) IS NOT NULL
        OR compared >= (
            SELECT min(compared)
            FROM (SELECT compared FROM scores ORDER BY compared DESC LIMIT (SELECT count FROM wanted)) AS best
        )
),
word_matches AS (
    SELECT
        c.session_id, c.seq, m.time, factors.prior, c.own IS NOT NULL AS is_match,
        round(factors.words * factors.prior * {ranking.PRECISION}) / {ranking.PRECISION} AS score
    FROM candidates AS c
    JOIN LATERAL (
        -- LIMIT 1 makes the planner use the whole key, whatever it estimates about the user.
        SELECT
            role, is_question, question_share, speaker, importance, time, kind, valid_from, valid_until, lexemes
        FROM {schema}.memories
        WHERE user_id = :user_id AND session_id = c.session_id AND seq = c.seq
        LIMIT 1
    ) AS m ON TRUE
    JOIN LATERAL (
        SELECT
            CASE WHEN m.kind = 'message' THEN c.score ELSE c.own END AS words,
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
)
SELECT session_id, seq, time, score, prior, is_match
FROM word_matches
