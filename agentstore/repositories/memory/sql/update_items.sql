-- Update existing items, in whichever bucket they are. The buckets are locked already.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, analysis text, ids text[], payloads text[], times timestamptz[], tokens bigint[],
--   lexemes text[], cuts boolean[], kinds text[], importances float8[], froms timestamptz[], untils timestamptz[],
--   namespaces text[]
-- Rows: the ids of the items that exist
-- Races: none, since all transactions that save items of the user lock the user first
WITH existing AS MATERIALIZED (
    SELECT
        memories.session_id, memories.seq, memories.tokens AS tokens_before,
        coalesce(given.time, now()) AS new_time, given.*
    FROM unnest(
            :ids, :payloads, :times, :tokens, :lexemes, :cuts, :kinds, :importances, :froms, :untils,
            :namespaces
        ) AS given (id, payload, time, tokens, lexemes, is_cut, kind, importance, valid_from, valid_until, namespace)
    JOIN {schema}.memories ON given.id = memories.id
    WHERE memories.user_id = :user_id AND memories.kind <> 'message'
),
counted AS (
    UPDATE {schema}.memory_buckets AS bucket
    SET tokens = bucket.tokens + more.tokens
    FROM (
        SELECT session_id, sum(tokens - tokens_before) AS tokens
        FROM existing
        GROUP BY session_id
    ) AS more
    WHERE bucket.user_id = :user_id AND bucket.session_id = more.session_id
)
UPDATE {schema}.memories
SET
    payload = existing.payload::json,
    time = existing.new_time,
    tokens = existing.tokens,
    lexemes = existing.lexemes::tsvector,
    is_cut = existing.is_cut,
    kind = existing.kind,
    importance = existing.importance,
    valid_from = existing.valid_from,
    valid_until = existing.valid_until,
    namespace = existing.namespace,
    analysis = :analysis
FROM existing
WHERE memories.user_id = :user_id AND memories.session_id = existing.session_id AND memories.seq = existing.seq
RETURNING memories.id
