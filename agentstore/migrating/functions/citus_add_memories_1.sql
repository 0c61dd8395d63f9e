-- What memory/sql/add.sql does, on one user's server of a distributed database: see add.citus.sql.
--
-- The messages are a literal list of VALUES, as in citus_append_messages_1.sql.
CREATE OR REPLACE FUNCTION {schema}.citus_add_memories_1(
    p_user text, p_session text, p_count bigint, p_all_tokens bigint, p_analysis text, p_namespace text, p_ids text[],
    p_payloads text[], p_roles text[], p_question_shares smallint[], p_times timestamptz[], p_tokens bigint[],
    p_lexemes text[], p_cuts boolean[], p_speakers text[], p_lock_timeout float8, OUT number bigint
)
RETURNS SETOF bigint LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    base bigint;
BEGIN
    PERFORM set_config('lock_timeout', (p_lock_timeout * 1000)::bigint::text, TRUE);
    PERFORM FROM {schema}.users AS u WHERE u.id = p_user;
    IF NOT FOUND THEN
        INSERT INTO {schema}.users (id) VALUES (p_user) ON CONFLICT (id) DO NOTHING;
    END IF;
    INSERT INTO {schema}.memory_buckets AS bucket (user_id, session_id, count, tokens)
    VALUES (p_user, p_session, p_count, p_all_tokens)
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET
            count = bucket.count + excluded.count,
            tokens = bucket.tokens + excluded.tokens,
            updated_at = greatest(bucket.updated_at, excluded.updated_at)
    RETURNING bucket.count - p_count INTO base;
    FOR start_at IN 1..cardinality(p_ids) BY 100 LOOP
        EXECUTE (
            SELECT
                'INSERT INTO {schema}.memories (user_id, session_id, seq, id, payload, role, question_share, '
                'is_question, time, tokens, lexemes, is_cut, speaker, analysis, namespace) VALUES '
                || string_agg(
                    format(
                        '(%L, %L, %s, %L, %L, %L, %s, %L, %L, %s, %L, %L, %L, %L, %L)',
                        p_user, p_session, base + i, p_ids[i], p_payloads[i], p_roles[i],
                        coalesce(p_question_shares[i], 0), coalesce(p_question_shares[i], 0) >= 50,
                        coalesce(p_times[i], now()), p_tokens[i], p_lexemes[i], coalesce(p_cuts[i], FALSE),
                        p_speakers[i], p_analysis, p_namespace
                    ),
                    ', '
                )
            FROM generate_series(start_at, least(start_at + 99, cardinality(p_ids))) AS i
        );
    END LOOP;
    FOR i IN 1..cardinality(p_ids) LOOP
        number := i;
        RETURN NEXT;
    END LOOP;
END $$;
