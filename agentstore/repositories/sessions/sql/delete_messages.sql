-- Delete messages of a session by their ids. The other messages keep their numbers.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, ids text[]
-- Rows: one: whether the session exists, was_changed, how many messages were deleted
-- Races: if a concurrent transaction changes the session after this statement's snapshot, nothing is deleted, and
--   was_changed is true: lock the session first then, and execute it again
WITH head AS MATERIALIZED (
    -- The version of the row: see append_missing.sql.
    SELECT xmin AS version
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
),
found AS MATERIALIZED (
    SELECT m.seq
    FROM {schema}.messages AS m
    JOIN unnest(:ids) AS given (id) ON m.id = given.id
    WHERE m.user_id = :user_id AND m.session_id = :session_id AND EXISTS (SELECT FROM head)
),
counted AS (
    SELECT count(*) AS count FROM found
),
claimed AS (
    UPDATE {schema}.sessions AS s
    SET
        removed = s.removed + counted.count,
        updated_at = greatest(s.updated_at, now()),
        listed_at = greatest(s.listed_at, date_trunc('minute', now()))
    FROM counted
    CROSS JOIN head
    WHERE s.user_id = :user_id AND s.id = :session_id AND s.xmin = head.version AND counted.count > 0
    RETURNING 1
),
deleted AS (
    DELETE FROM {schema}.messages AS m
    USING found
    WHERE m.user_id = :user_id AND m.session_id = :session_id AND m.seq = found.seq AND EXISTS (SELECT FROM claimed)
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM head) = 1 AS has_session,
    counted.count > 0 AND NOT EXISTS (SELECT FROM claimed) AS was_changed,
    (SELECT count(*) FROM deleted) AS deleted
FROM counted
