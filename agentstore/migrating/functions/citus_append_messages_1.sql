-- What append.sql does, for one user's server of a distributed database: see append.citus.sql.
--
-- Each statement is for one shard, and executed where the function is. Several messages are a literal list of VALUES:
-- Citus executes INSERT ... SELECT as a COPY, which does not report a duplicate as 23505.
CREATE OR REPLACE FUNCTION {schema}.citus_append_messages_1(
    p_user text, p_session text, p_ids text[], p_payloads text[], p_count bigint, p_expected bigint, p_ttl bigint,
    p_lock_timeout float8, OUT written_at timestamptz, OUT first_seq bigint, OUT message_count bigint
)
RETURNS SETOF record LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    PERFORM set_config('lock_timeout', (p_lock_timeout * 1000)::bigint::text, TRUE);
    UPDATE {schema}.sessions
    SET
        next_seq = next_seq + p_count,
        updated_at = greatest(updated_at, now()),
        listed_at = greatest(listed_at, date_trunc('minute', now()))
    WHERE user_id = p_user AND id = p_session
        AND (now() - updated_at < coalesce(ttl, p_ttl) * interval '1 second') IS NOT FALSE
        AND (next_seq - 1 - removed = p_expected) IS NOT FALSE
    RETURNING updated_at, next_seq - p_count, next_seq - 1 - removed INTO written_at, first_seq, message_count;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF p_count = 1 THEN
        INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at)
        VALUES (p_user, p_session, first_seq, p_ids[1], p_payloads[1]::json, written_at);
    ELSE
        FOR start_at IN 1..p_count BY 500 LOOP
            EXECUTE (
                SELECT
                    'INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at) VALUES '
                    || string_agg(
                        format(
                            '(%L, %L, %s, %L, %L, %L)',
                            p_user, p_session, first_seq + i - 1, p_ids[i], p_payloads[i], written_at
                        ),
                        ', '
                    )
                FROM generate_series(start_at, least(start_at + 499, p_count)) AS i
            );
        END LOOP;
    END IF;
    RETURN NEXT;
    written_at := NULL;
    first_seq := NULL;
    message_count := NULL;
    FOR i IN 2..p_count LOOP
        RETURN NEXT;
    END LOOP;
END $$;
