-- Insert messages into a bucket, and their user and bucket if missing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, count bigint, all_tokens bigint, analysis text, namespace text,
--   ids text[], payloads text[], roles text[], questions boolean[], times timestamptz[], tokens bigint[],
--   lexemes text[], cuts boolean[]
-- Rows: one for each message
-- Races: fails with 23505 if the bucket has one of the ids, or another transaction inserts it first, which is why it is
--   repeatable; with 23503 if the user or the bucket is deleted meanwhile
WITH
-- include: claim_seqs.sql
given AS (
    SELECT *
    FROM unnest(:ids, :payloads, :roles, :questions, :times, :tokens, :lexemes, :cuts) WITH ORDINALITY
            AS given (id, payload, role, is_question, time, tokens, lexemes, is_cut, position)
)
INSERT INTO {schema}.memories (
    user_id, session_id, seq, id, payload, role, is_question, time, tokens, lexemes, is_cut, analysis,
    namespace
)
SELECT
    :user_id, :session_id, claimed.base + given.position AS seq, given.id, given.payload::json, given.role,
    coalesce(given.is_question, FALSE) AS is_question, coalesce(given.time, now()) AS time, given.tokens,
    given.lexemes::tsvector, coalesce(given.is_cut, FALSE) AS is_cut, :analysis, :namespace
FROM given
CROSS JOIN claimed
RETURNING 1
