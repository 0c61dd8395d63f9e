-- Replace the content of a message, if its stored text is one of `same`; null replaces any.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, id text, payload text, same text[]
-- Rows: one: seq, created_at and the stored text, null if there is no such message; whether it was replaced. Without a
--   session, none.
-- Races: a message that a concurrent transaction has deleted or changed after this statement's snapshot is not
--   replaced: execute it again
WITH head AS MATERIALIZED (
    SELECT id
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
),
found AS MATERIALIZED (
    SELECT session_id, seq, created_at, payload::text AS stored
    FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id AND id = :id AND EXISTS (SELECT FROM head)
),
claimed AS (
    -- Locks the session first, as every statement does that changes its messages.
    UPDATE {schema}.sessions AS s
    SET
        updated_at = greatest(s.updated_at, now()),
        listed_at = greatest(s.listed_at, date_trunc('minute', now()))
    FROM found
    WHERE s.user_id = :user_id AND s.id = :session_id
        AND (:same IS NULL OR array_position(:same, found.stored) IS NOT NULL)
    RETURNING 1
),
replaced AS (
    UPDATE {schema}.messages AS m
    SET payload = :payload::json
    WHERE m.user_id = :user_id AND m.session_id = :session_id AND m.id = :id AND EXISTS (SELECT FROM claimed)
        AND (:same IS NULL OR array_position(:same, m.payload::text) IS NOT NULL)
    RETURNING 1
)
SELECT
    found.seq, found.created_at, found.stored,
    (SELECT count(*) FROM replaced) = 1 AS is_replaced
FROM head
LEFT JOIN found ON head.id = found.session_id
