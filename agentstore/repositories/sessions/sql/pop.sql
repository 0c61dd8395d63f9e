-- Remove the last messages of a session, and return them.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, count bigint
-- Rows: nulls, whether the session exists, was_changed, how many messages it has left; then one for each message
--   removed: seq, created_at, payload, nulls
-- Races: if a concurrent transaction changes the session after this statement's snapshot, nothing is removed, and
--   was_changed is true: lock the session first then, and execute it again
WITH head AS MATERIALIZED (
    -- The version of the row: see append_missing.sql.
    SELECT xmin AS version, next_seq, removed
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
),
last_messages AS MATERIALIZED (
    SELECT seq
    FROM {schema}.messages
    WHERE user_id = :user_id AND session_id = :session_id AND EXISTS (SELECT FROM head)
    ORDER BY seq DESC
    LIMIT (SELECT :count)
),
counted AS (
    SELECT min(seq) AS seq, count(*) AS count FROM last_messages
),
claimed AS (
    UPDATE {schema}.sessions AS s
    SET
        next_seq = counted.seq,
        -- Numbers that are missing among those removed are no longer below next_seq.
        removed = s.removed + counted.count + counted.seq - s.next_seq,
        updated_at = greatest(s.updated_at, now()),
        listed_at = greatest(s.listed_at, date_trunc('minute', now()))
    FROM counted
    CROSS JOIN head
    WHERE s.user_id = :user_id AND s.id = :session_id AND s.xmin = head.version AND counted.count > 0
    RETURNING s.next_seq, s.next_seq - 1 - s.removed AS message_count
),
deleted AS (
    DELETE FROM {schema}.messages AS m
    USING claimed
    WHERE m.user_id = :user_id AND m.session_id = :session_id AND m.seq >= claimed.next_seq
    RETURNING m.seq, m.created_at, m.payload
)
SELECT
    NULL AS seq, NULL AS created_at, NULL::bytea AS payload,
    (SELECT count(*) FROM head) = 1 AS has_session,
    counted.count > 0 AND NOT EXISTS (SELECT FROM claimed) AS was_changed,
    coalesce((SELECT message_count FROM claimed), (SELECT next_seq - 1 - removed FROM head)) AS message_count
FROM counted
UNION ALL
(
    SELECT seq, created_at, json_send(payload), NULL, NULL, NULL
    FROM deleted
    ORDER BY seq
)
