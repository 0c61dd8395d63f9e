-- Insert or replace documents of a user, each in a bucket of its own, and insert the user if missing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, analysis text, ids text[], payloads text[], roles text[], created_at timestamptz[],
--   updated_at timestamptz[], tokens bigint[], lexemes text[], cuts boolean[], importances float8[],
--   untils timestamptz[], namespaces text[], replace boolean
-- Rows: the ids of the documents
-- Races: of concurrent calls, the last one replaces the others, and created_at remains that of the first; fails with
--   23503 if the user or a bucket is deleted meanwhile. A bucket that has other memories is not written, nor is the
--   document.
--
-- The time of a document is that of its first insertion, and the time of its bucket that of the last one. One that has
-- expired no longer exists for a caller, whether it is deleted yet or not: its time is that of this insertion. Unless
-- `replace` is true, existing documents that were not written before `updated_at` remain unchanged.
WITH
-- include: ../../sql/insert_user.sql
given AS MATERIALIZED (
    SELECT *
    FROM unnest(
            :ids, :payloads, :roles, :created_at, :updated_at, :tokens, :lexemes, :cuts, :importances, :untils,
            :namespaces
        ) AS given (
            id, payload, role, created_at, updated_at, tokens, lexemes, is_cut, importance, valid_until, namespace
        )
    -- All or none.
    WHERE NOT EXISTS (
            SELECT FROM {schema}.memories AS m
            WHERE m.user_id = :user_id AND m.session_id = ANY(:ids) AND (m.id <> m.session_id OR m.kind <> 'document')
        )
        AND (
            :replace
            OR NOT EXISTS (
                SELECT FROM {schema}.memory_buckets AS b
                WHERE b.user_id = :user_id AND b.session_id = given.id AND b.updated_at >= given.updated_at
            )
        )
),
bucket AS (
    INSERT INTO {schema}.memory_buckets AS bucket (user_id, session_id, count, tokens, updated_at)
    SELECT :user_id, given.id, 1 AS count, given.tokens, coalesce(given.updated_at, now()) AS updated_at
    FROM given
    CROSS JOIN owner
    -- Locked in the order of their ids, as by every statement that locks several buckets.
    ORDER BY given.id COLLATE "C"
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET
            tokens = excluded.tokens,
            updated_at = greatest(bucket.updated_at, excluded.updated_at)
        WHERE bucket.count = 1 AND (:replace OR bucket.updated_at < excluded.updated_at)
    RETURNING bucket.session_id
)
INSERT INTO {schema}.memories AS document (
    user_id, session_id, seq, id, payload, role, is_question, time, tokens, lexemes, is_cut, analysis,
    kind, importance, valid_until, namespace
)
SELECT
    :user_id, bucket.session_id, 1 AS seq, given.id, given.payload::json, given.role, FALSE AS is_question,
    coalesce(given.created_at, now()) AS time, given.tokens, given.lexemes::tsvector, given.is_cut, :analysis,
    'document' AS kind, given.importance, given.valid_until, given.namespace
FROM given
JOIN bucket ON given.id = bucket.session_id
ORDER BY given.id COLLATE "C"
ON CONFLICT (user_id, session_id, seq) DO UPDATE
    SET
        payload = excluded.payload,
        time = CASE WHEN document.valid_until <= excluded.time THEN excluded.time ELSE document.time END,
        tokens = excluded.tokens,
        lexemes = excluded.lexemes,
        is_cut = excluded.is_cut,
        analysis = excluded.analysis,
        importance = excluded.importance,
        valid_until = excluded.valid_until,
        namespace = excluded.namespace
    -- Of the buckets above only: Citus accepts no parameter here.
    WHERE document.id = excluded.id AND document.kind = 'document'
RETURNING document.id
