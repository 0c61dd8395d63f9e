-- Insert new items into a bucket, and their user and bucket if missing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, count bigint, all_tokens bigint, analysis text, ids text[],
--   payloads text[], roles text[], times timestamptz[], tokens bigint[], lexemes text[], cuts boolean[],
--   kinds text[], importances float8[], froms timestamptz[], untils timestamptz[],
--   namespaces text[]
-- Rows: one for each item
-- Races: fails with 23505 if the bucket has one of the ids, or another transaction inserts it first, which is why it is
--   repeatable; with 23503 if the user or the bucket is deleted meanwhile
WITH
-- include: claim_seqs.sql
given AS (
    SELECT *
    FROM unnest(
            :ids, :payloads, :roles, :times, :tokens, :lexemes, :cuts, :kinds, :importances, :froms, :untils,
            :namespaces
        ) WITH ORDINALITY AS given (
            id, payload, role, time, tokens, lexemes, is_cut, kind, importance, valid_from, valid_until,
            namespace, position
        )
)
INSERT INTO {schema}.memories (
    user_id, session_id, seq, id, payload, role, is_question, time, tokens, lexemes, is_cut, analysis,
    kind, importance, valid_from, valid_until, namespace
)
SELECT
    :user_id, :session_id, claimed.base + given.position AS seq, given.id, given.payload::json, given.role,
    FALSE AS is_question, coalesce(given.time, now()) AS time, given.tokens, given.lexemes::tsvector, given.is_cut,
    :analysis, given.kind, given.importance, given.valid_from, given.valid_until, given.namespace
FROM given
CROSS JOIN claimed
RETURNING 1
