-- What create.sql does, on one user's server of a distributed database: see create.citus.sql.
CREATE OR REPLACE FUNCTION {schema}.citus_create_session_1(
    p_user text, p_session text, p_title text, p_metadata text, p_ttl bigint, p_app text, p_with_messages boolean,
    p_default_ttl bigint, p_lock_timeout float8,
    OUT created boolean, OUT created_at timestamptz, OUT updated_at timestamptz, OUT title text, OUT metadata text,
    OUT forked_from text, OUT forked_at bigint, OUT ttl bigint, OUT app text, OUT message_count bigint,
    OUT payload bytea, OUT place bytea
)
RETURNS SETOF record LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    PERFORM set_config('lock_timeout', (p_lock_timeout * 1000)::bigint::text, TRUE);
    -- One query, so that the session and its messages are of one snapshot.
    RETURN QUERY
    WITH existing AS MATERIALIZED (
        SELECT
            s.created_at, s.updated_at, s.title, s.metadata::text AS metadata, s.forked_from, s.forked_at, s.ttl, s.app,
            s.next_seq - 1 - s.removed AS message_count
        FROM {schema}.sessions AS s
        WHERE s.user_id = p_user AND s.id = p_session
            AND (now() - s.updated_at < coalesce(s.ttl, p_default_ttl) * interval '1 second') IS NOT FALSE
    )
    SELECT
        FALSE, e.created_at, e.updated_at, e.title, e.metadata, e.forked_from, e.forked_at, e.ttl, e.app,
        e.message_count, NULL::bytea, NULL::bytea
    FROM existing AS e
    UNION ALL
    (
        SELECT
            FALSE, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
            json_send(m.payload), int8send(m.seq) || timestamptz_send(m.created_at)
        FROM {schema}.messages AS m
        WHERE m.user_id = p_user AND m.session_id = p_session AND p_with_messages AND EXISTS (SELECT FROM existing)
        ORDER BY m.seq
    );
    IF FOUND THEN
        RETURN;
    END IF;
    PERFORM FROM {schema}.users AS u WHERE u.id = p_user;
    IF NOT FOUND THEN
        INSERT INTO {schema}.users (id) VALUES (p_user) ON CONFLICT (id) DO NOTHING;
    END IF;
    RETURN QUERY
    INSERT INTO {schema}.sessions AS s (user_id, id, title, metadata, ttl, app)
    VALUES (p_user, p_session, p_title, p_metadata::json, p_ttl, p_app)
    ON CONFLICT (user_id, id) DO NOTHING
    RETURNING
        TRUE, s.created_at, s.updated_at, s.title, s.metadata::text, s.forked_from, s.forked_at, s.ttl, s.app,
        0::bigint, NULL::bytea, NULL::bytea;
END $$;
