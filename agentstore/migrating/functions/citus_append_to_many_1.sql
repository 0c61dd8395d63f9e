-- What append_to_many.sql does, for sessions of users whose rows are on one server: see append_to_many.citus.sql.
--
-- Citus caches no plan of a statement in a function: each costs its planning. So a session costs one statement, which
-- locks its row, and the rows are written by two. The statement that updates the sessions finds them all, since they
-- are locked. User and session are literals: Citus then plans the statement for the shard alone.
CREATE OR REPLACE FUNCTION {schema}.citus_append_to_many_1(
    p_user text, p_users text[], p_sessions text[], p_counts bigint[], p_firsts bigint[], p_ids text[],
    p_payloads text[], p_ttl bigint,
    OUT number bigint, OUT written_at timestamptz, OUT first_seq bigint, OUT message_count bigint, OUT place integer
)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    here integer := (SELECT g.groupid FROM pg_dist_local_group AS g);
    began timestamptz := now();
    given record;
    listed timestamptz;
    heads text[];
    messages text[];
BEGIN
    FOR given IN
        SELECT target.*, p.groupid
        FROM (
            SELECT t.*, get_shard_id_for_distribution_column('{schema}.users'::regclass, t.user_id) AS shard
            FROM unnest(p_users, p_sessions, p_counts, p_firsts) WITH ORDINALITY AS t (user_id, id, count, first, n)
            OFFSET 0
        ) AS target
        LEFT JOIN pg_dist_placement AS p ON p.shardid = target.shard
        ORDER BY target.n
    LOOP
        number := given.n;
        place := given.groupid;
        written_at := NULL;
        first_seq := NULL;
        message_count := NULL;
        IF place IS DISTINCT FROM here THEN
            RETURN NEXT;
            CONTINUE;
        END IF;
        EXECUTE format(
            'SELECT greatest(updated_at, %3$L), greatest(listed_at, %4$L), next_seq, next_seq - 1 - removed + %5$s '
            'FROM {schema}.sessions WHERE user_id = %1$L AND id = %2$L '
            'AND (%3$L - updated_at < coalesce(ttl, %6$L) * interval ''1 second'') IS NOT FALSE '
            'FOR NO KEY UPDATE SKIP LOCKED',
            given.user_id, given.id, began, date_trunc('minute', began), given.count, p_ttl
        ) INTO written_at, listed, first_seq, message_count;
        CONTINUE WHEN written_at IS NULL;
        heads := heads || format(
            '(%L, %L, %s, %L, %L)', given.user_id, given.id, first_seq + given.count, written_at, listed
        );
        FOR i IN 1..given.count LOOP
            messages := messages || format(
                '(%L, %L, %s, %L, %L, %L)',
                given.user_id, given.id, first_seq + i - 1, p_ids[given.first + i], p_payloads[given.first + i],
                written_at
            );
        END LOOP;
        RETURN NEXT;
    END LOOP;
    IF heads IS NOT NULL THEN
        EXECUTE 'INSERT INTO {schema}.sessions (user_id, id, next_seq, updated_at, listed_at) VALUES '
            || array_to_string(heads, ', ') || ' ON CONFLICT (user_id, id) DO UPDATE SET next_seq = excluded.next_seq, '
            'updated_at = excluded.updated_at, listed_at = excluded.listed_at';
        EXECUTE 'INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at) VALUES '
            || array_to_string(messages, ', ');
    END IF;
END $$;
