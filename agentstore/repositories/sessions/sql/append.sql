-- Append messages to a session, none of which is stored already.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, ids text[], payloads text[], count bigint, expected bigint
-- Rows: one: the timestamp of the append, the seq of the first message, and how many messages the session now has. None
--   if the session does not exist, or does not have `expected` messages; null is any.
-- Races: fails with 23505, storing nothing, if an id is stored already; this also makes it safe to retry
--
-- The INSERT is no part of the result: returning a row for each message takes the server 4 % of an append of a hundred,
-- and the driver 6 %. It returns rows nevertheless, since without them Citus would execute it as a COPY.
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
    RETURNING updated_at AS written_at, next_seq - :count AS first_seq, next_seq - 1 - removed AS message_count
),
inserted AS (
    INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at)
    SELECT
        :user_id, :session_id, claimed.first_seq + given.position - 1, given.id, given.payload::json,
        claimed.written_at
    FROM claimed
    CROSS JOIN unnest(:ids, :payloads) WITH ORDINALITY AS given (id, payload, position)
    RETURNING 1
)
SELECT written_at, first_seq, message_count FROM claimed
