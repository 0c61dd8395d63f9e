-- Append messages to a session, none of which is stored already.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, ids text[], payloads text[], count bigint, expected bigint
-- Rows: those of append.sql
-- Races: those of append.sql
--
-- Citus accepts no parameter in the RETURNING of an INSERT ... SELECT.
WITH claimed AS (
    UPDATE {schema}.sessions
    SET
        next_seq = next_seq + :count,
        updated_at = greatest(updated_at, now()),
        listed_at = greatest(listed_at, date_trunc('minute', now()))
    WHERE user_id = :user_id AND id = :session_id
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
        AND (next_seq - 1 - removed = :expected) IS NOT FALSE
    RETURNING next_seq - :count AS base, updated_at, next_seq - 1 - removed AS message_count
),
inserted AS (
    INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at)
    SELECT
        :user_id, :session_id, claimed.base + given.position - 1, given.id, given.payload::json, claimed.updated_at
    FROM claimed
    CROSS JOIN unnest(:ids, :payloads) WITH ORDINALITY AS given (id, payload, position)
    RETURNING 1
)
SELECT
    CASE WHEN given.position = 1 THEN claimed.updated_at END,
    CASE WHEN given.position = 1 THEN claimed.base END,
    CASE WHEN given.position = 1 THEN claimed.message_count END
FROM claimed
CROSS JOIN generate_series(1, :count) AS given (position)
