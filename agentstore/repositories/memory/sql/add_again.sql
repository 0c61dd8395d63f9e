-- Insert those of the messages whose ids are new into an existing bucket, and queue them for extraction.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, analysis text, namespace text, ids text[], payloads text[], roles text[],
--   question_shares smallint[], times timestamptz[], tokens bigint[], lexemes text[], cuts boolean[],
--   speakers text[],
--   enqueue boolean, settle interval, slack interval
-- Rows: the number of new messages; base, the last position before them, or null if the bucket does not exist;
--   item_id, the id of a message that is the id of an existing item, in which case nothing was inserted
-- Races: fails with 23505 if another transaction inserts one of the ids meanwhile. It is then executed again, because
--   the snapshot of a statement does not contain what the statement waited for.
WITH given AS MATERIALIZED (
    -- Before `inserted`: on Citus, a CTE that is executed after it would see its rows.
    SELECT given.*, existing.kind AS existing_kind
    FROM unnest(:ids, :payloads, :roles, :question_shares, :times, :tokens, :lexemes, :cuts, :speakers) WITH ORDINALITY
            AS given (id, payload, role, question_share, time, tokens, lexemes, is_cut, speaker, position)
    LEFT JOIN {schema}.memories AS existing
        ON existing.user_id = :user_id AND existing.session_id = :session_id AND given.id = existing.id
),
new_messages AS (
    SELECT * FROM given WHERE existing_kind IS NULL
),
added AS (
    SELECT
        count(*) FILTER (WHERE existing_kind IS NULL) AS count,
        coalesce(sum(tokens) FILTER (WHERE existing_kind IS NULL), 0) AS tokens,
        min(id) FILTER (WHERE existing_kind <> 'message') AS item_id
    FROM given
),
claimed AS (
    UPDATE {schema}.memory_buckets AS bucket
    SET
        count = bucket.count + added.count,
        tokens = bucket.tokens + added.tokens,
        -- now() is the start of the transaction, which may have waited for one that started later.
        updated_at = greatest(bucket.updated_at, now())
    FROM added
    WHERE bucket.user_id = :user_id AND bucket.session_id = :session_id AND added.count > 0
        AND added.item_id IS NULL
    RETURNING bucket.count - added.count AS base
),
inserted AS (
    INSERT INTO {schema}.memories (
        user_id, session_id, seq, id, payload, role, question_share, is_question, time, tokens, lexemes, is_cut,
        speaker, analysis, namespace
    )
    SELECT
        :user_id, :session_id, claimed.base + row_number() OVER (ORDER BY position) AS seq, id, payload::json, role,
        coalesce(question_share, 0) AS question_share, coalesce(question_share, 0) >= 50 AS is_question,
        coalesce(time, now()) AS time, tokens, lexemes::tsvector, coalesce(is_cut, FALSE) AS is_cut, speaker, :analysis,
        :namespace
    FROM new_messages
    CROSS JOIN claimed
    RETURNING 1
),
enqueued AS (
    -- As in add_and_enqueue.sql.
    INSERT INTO {schema}.memory_extractions AS job (user_id, session_id, first_seq, last_seq, run_after)
    SELECT
        :user_id, :session_id, base + 1 AS first_seq, base + (SELECT count FROM added) AS last_seq,
        now() + :settle AS run_after
    FROM claimed
    WHERE :enqueue
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
SELECT added.count, (SELECT base FROM claimed) AS base, added.item_id
FROM added
