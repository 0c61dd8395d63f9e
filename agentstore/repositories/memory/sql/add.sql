-- Insert messages into a bucket, and their user and bucket if missing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, count bigint, all_tokens bigint, analysis text, namespace text,
--   ids text[], payloads text[], roles text[], question_shares smallint[], times timestamptz[], tokens bigint[],
--   lexemes text[], cuts boolean[], speakers text[]
-- Rows: one for each message
-- Races: fails with 23505 if the bucket has one of the ids, or another transaction inserts it first, which is why it is
--   repeatable; with 23503 if the user or the bucket is deleted meanwhile
WITH
-- include: claim_seqs.sql
given AS (
    SELECT *
    FROM unnest(:ids, :payloads, :roles, :question_shares, :times, :tokens, :lexemes, :cuts, :speakers) WITH ORDINALITY
            AS given (id, payload, role, question_share, time, tokens, lexemes, is_cut, speaker, position)
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
