-- Read a session and its last messages.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, limit bigint
-- Rows: the columns of the session, null, end_seq; then one for each message: nulls, payload, null. Without a session,
--   none.
-- Races: none, since it only reads
--
-- The range of seq, which has no gaps, selects the messages. With LIMIT, Postgres estimates the plan for ten rows to be
-- so much cheaper than the generic one that it plans again at each call, which takes as long as the execution.
WITH head AS MATERIALIZED (
    SELECT
        created_at, updated_at, title, metadata::text AS metadata, forked_from, forked_at, ttl,
        NULL::bytea AS payload, next_seq AS end_seq
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id
        AND coalesce(now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second', TRUE)
)
SELECT created_at, updated_at, title, metadata, forked_from, forked_at, ttl, payload, end_seq
FROM head
UNION ALL
(
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, json_send(payload), NULL
    FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id
        AND seq >= coalesce((SELECT end_seq FROM head) - :limit, 1) AND seq < (SELECT end_seq FROM head)
    ORDER BY seq
)
