-- Read a session and its last messages before the number `before_seq`.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, limit bigint, before_seq bigint
-- Rows: the columns of the session, nulls; then one for each message: nulls, payload, place. Without a
--   session, none.
-- Races: none, since it only reads
WITH head AS MATERIALIZED (
    SELECT
        created_at, updated_at, title, metadata::text AS metadata, forked_from, forked_at, ttl, app,
        next_seq - 1 - removed AS message_count, removed, least(next_seq, :before_seq) AS end_seq
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
),
page AS MATERIALIZED (
    -- The number of the first message of the page. A range of seq selects the messages: with LIMIT, Postgres estimates
    -- the plan for ten rows to be so much cheaper than the generic one that it plans again at each call, which takes as
    -- long as the execution. Only where messages of the session were deleted by themselves are the others counted.
    SELECT
        CASE
            WHEN head.removed = 0 THEN coalesce(head.end_seq - :limit, 1)
            ELSE coalesce(
                    (
                        SELECT min(counted.seq)
                        FROM (
                            SELECT m.seq
                            FROM {schema}.messages AS m
                            WHERE m.user_id = :user_id AND m.session_id = :session_id AND m.seq < head.end_seq
                            ORDER BY m.seq DESC
                            LIMIT (SELECT :limit)
                        ) AS counted
                    ),
                    head.end_seq
                )
        END AS first_seq
    FROM head
)
SELECT
    created_at, updated_at, title, metadata, forked_from, forked_at, ttl, app, message_count,
    NULL::bytea AS payload, NULL::bytea AS place
FROM head
UNION ALL
(
    SELECT
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        json_send(payload), int8send(seq) || timestamptz_send(created_at)
    FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id
        AND seq >= (SELECT first_seq FROM page) AND seq < (SELECT end_seq FROM head)
    ORDER BY seq
)
