-- Insert messages into a bucket, and their user and bucket if missing, and queue the messages for extraction.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, count bigint, all_tokens bigint, analysis text, namespace text,
--   ids text[], payloads text[], roles text[], question_shares smallint[], times timestamptz[], tokens bigint[],
--   lexemes text[], cuts boolean[], speakers text[], settle interval, slack interval
-- Rows: one for each message
-- Races: fails with 23505 if the bucket has one of the ids, or another transaction inserts it first, which is why it is
--   repeatable; with 23503 if the user or the bucket is deleted meanwhile
--
-- It is add.sql with the CTE `enqueued`, which adds a table and its indexes to what an insertion locks.
WITH
-- include: claim_seqs.sql
given AS (
    SELECT *
    FROM unnest(:ids, :payloads, :roles, :question_shares, :times, :tokens, :lexemes, :cuts, :speakers) WITH ORDINALITY
            AS given (id, payload, role, question_share, time, tokens, lexemes, is_cut, speaker, position)
),
enqueued AS (
    -- Extend the bucket's open job, or open one. The job is due :settle after the last addition, or up to :slack
    -- earlier, so that a conversation is extracted when it has paused. A job that has enough messages for a call is not
    -- postponed; one that is due later than that, after a failure, stays so. Because of the slack, most additions do
    -- not update the index on run_after.
    INSERT INTO {schema}.memory_extractions AS job (user_id, session_id, first_seq, last_seq, run_after)
    SELECT :user_id, :session_id, base + 1 AS first_seq, base + :count AS last_seq, now() + :settle AS run_after
    FROM claimed
    ON CONFLICT (user_id, session_id) WHERE is_open DO UPDATE
        SET
            last_seq = excluded.last_seq,
            run_after = CASE
                WHEN excluded.last_seq - job.first_seq >= {extraction.MAX_MESSAGES}
                    OR excluded.run_after - job.run_after <= :slack
                    THEN job.run_after
                ELSE excluded.run_after
            END
    RETURNING 1
)
INSERT INTO {schema}.memories (
    user_id, session_id, seq, id, payload, role, question_share, is_question, time, tokens, lexemes, is_cut, speaker,
    analysis, namespace
)
SELECT
    :user_id, :session_id, claimed.base + given.position AS seq, given.id, given.payload::json, given.role,
    coalesce(given.question_share, 0) AS question_share, coalesce(given.question_share, 0) >= 50 AS is_question,
    coalesce(given.time, now()) AS time, given.tokens, given.lexemes::tsvector, coalesce(given.is_cut, FALSE) AS is_cut,
    given.speaker, :analysis, :namespace
FROM given
CROSS JOIN claimed
RETURNING 1
