-- Append messages to a session, none of which is stored already.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, ids text[], payloads text[], count bigint, expected bigint
-- Rows: one for each message: for the first the timestamp of the append, its seq, and how many messages the session now
--   has; nulls for the others. None if the session does not exist, or does not have `expected` messages; null is any.
-- Races: fails with 23505, storing nothing, if an id is stored already; this also makes it safe to retry
--
-- The values are returned only once: decoding them for each message takes the driver longer than it takes the server to
-- insert the messages. RETURNING on the INSERT, and not a count of it: without it, Citus would execute it as a COPY.
WITH claimed AS (
    -- listed_at changes once a minute only, so that most appends write to no index. Neither timestamp moves backwards:
    -- now() is when the transaction began, and the row may have a later one if it then waited for the lock.
    UPDATE {schema}.sessions
    SET
        next_seq = next_seq + :count,
        updated_at = greatest(updated_at, now()),
        listed_at = greatest(listed_at, date_trunc('minute', now()))
    WHERE user_id = :user_id AND id = :session_id
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
        AND (next_seq - 1 - removed = :expected) IS NOT FALSE
    RETURNING next_seq - :count AS base, updated_at, next_seq - 1 - removed AS message_count
)
INSERT INTO {schema}.messages AS m (user_id, session_id, seq, id, payload, created_at)
SELECT
    :user_id, :session_id, claimed.base + given.position - 1, given.id, given.payload::json, claimed.updated_at
FROM claimed
CROSS JOIN unnest(:ids, :payloads) WITH ORDINALITY AS given (id, payload, position)
RETURNING
    CASE WHEN m.id = (:ids)[1] THEN m.created_at END,
    CASE WHEN m.id = (:ids)[1] THEN m.seq END,
    CASE WHEN m.id = (:ids)[1] THEN (SELECT message_count FROM claimed) END
