-- What save_state.sql does, on one user's server of a distributed database: see save_state.citus.sql.
CREATE OR REPLACE FUNCTION {schema}.citus_save_state_1(
    p_user text, p_session text, p_expected bigint, p_payload text, p_packed bytea, p_metadata text, p_size bigint,
    p_lock_timeout float8, OUT round bigint
)
RETURNS SETOF bigint LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    saved timestamptz;
BEGIN
    PERFORM set_config('lock_timeout', (p_lock_timeout * 1000)::bigint::text, TRUE);
    PERFORM FROM {schema}.users AS u WHERE u.id = p_user;
    IF NOT FOUND THEN
        INSERT INTO {schema}.users (id) VALUES (p_user) ON CONFLICT (id) DO NOTHING;
    END IF;
    INSERT INTO {schema}.state_heads AS head (user_id, session_id, next_round, last_round)
    VALUES (p_user, p_session, 2, 1)
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET
            next_round = head.next_round + 1,
            last_round = head.next_round,
            updated_at = greatest(head.updated_at, excluded.updated_at)
        WHERE p_expected IS NULL OR head.last_round = p_expected
    RETURNING head.last_round, head.updated_at INTO round, saved;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO {schema}.state_rounds (user_id, session_id, round, payload, packed, metadata, size, saved_at)
    VALUES (p_user, p_session, round, p_payload::json, p_packed, p_metadata::json, p_size, saved);
    RETURN NEXT;
END $$;
