-- Update the index of a user's memories that did not change since they were read, and the buckets' token counts.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, analysis text, new_session_id text[], new_seq bigint[], new_version text[],
--   new_before bigint[], new_tokens bigint[], new_lexemes text[], new_is_cut boolean[],
--   new_question_share smallint[], new_speaker text[]
-- Rows: the number of memories updated
-- Races: a memory that another transaction changes or deletes meanwhile is not updated
WITH locked AS MATERIALIZED (
    -- In the order of their session ids, as every statement that locks several buckets does.
    SELECT session_id
    FROM {schema}.memory_buckets
    WHERE user_id = :user_id AND session_id = any(:new_session_id)
    ORDER BY session_id
    FOR NO KEY UPDATE
),
changed AS (
    UPDATE {schema}.memories AS memory
    SET
        tokens = given.tokens,
        lexemes = given.lexemes::tsvector,
        is_cut = given.is_cut,
        question_share = given.question_share,
        speaker = given.speaker,
        analysis = :analysis
    FROM unnest(
            :new_session_id, :new_seq, :new_version, :new_before, :new_tokens, :new_lexemes, :new_is_cut,
            :new_question_share, :new_speaker
        ) AS given (session_id, seq, version, tokens_before, tokens, lexemes, is_cut, question_share, speaker)
    WHERE memory.user_id = :user_id
        AND memory.session_id = given.session_id
        AND memory.seq = given.seq
        AND memory.xmin::text = given.version
        -- Makes the update wait for the locks on the buckets, which a deletion takes first as well.
        AND (SELECT count(*) FROM locked) > 0
    RETURNING memory.session_id, given.tokens - given.tokens_before AS more
),
counted AS (
    UPDATE {schema}.memory_buckets AS bucket
    SET tokens = bucket.tokens + sums.more
    FROM (SELECT session_id, sum(more) AS more FROM changed GROUP BY session_id) AS sums
    WHERE bucket.user_id = :user_id AND bucket.session_id = sums.session_id AND sums.more <> 0
)
SELECT count(*)
FROM changed
