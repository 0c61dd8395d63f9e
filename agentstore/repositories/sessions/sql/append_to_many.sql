-- Append messages to several sessions.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: users text[], sessions text[], counts bigint[], firsts bigint[], numbers bigint[], ids text[],
--   payloads text[]
-- Rows: one for each session that was appended to: its number, updated_at, the seq of its first new message, how many
--   messages it now has
-- Races: it waits for no lock: a session that another transaction has locked, or that does not exist, is skipped, and
--   its number is not returned. Fails with 23505, storing nothing, if an id is stored already.
--
-- `users` and `sessions` name the sessions, whose numbers begin with 1. `counts` says how many messages each gets,
-- `firsts` how many messages of the call come before them; `numbers` names, for each message, its session.
-- (SELECT :x) hides a value from the planner, which would otherwise plan each execution for its values. Citus refuses
-- this statement, since it locks sessions of several users.
WITH unlocked AS MATERIALIZED (
    SELECT s.user_id, s.id, target.count, target.first, target.number
    FROM {schema}.sessions AS s
    JOIN
        unnest((SELECT :users), (SELECT :sessions), (SELECT :counts), (SELECT :firsts)) WITH ORDINALITY
            AS target (user_id, id, count, first, number)
        ON s.user_id = target.user_id AND s.id = target.id
    WHERE (now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
    FOR NO KEY UPDATE OF s SKIP LOCKED
),
claimed AS (
    UPDATE {schema}.sessions AS s
    SET
        next_seq = s.next_seq + unlocked.count,
        updated_at = greatest(s.updated_at, now()),
        listed_at = greatest(s.listed_at, date_trunc('minute', now()))
    FROM unlocked
    WHERE s.user_id = unlocked.user_id AND s.id = unlocked.id
    RETURNING
        s.user_id, s.id, s.next_seq - unlocked.count - unlocked.first AS base, s.updated_at, unlocked.number,
        s.next_seq - unlocked.count AS first_seq, s.next_seq - 1 - s.removed AS message_count
),
inserted AS (
    INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at)
    SELECT
        claimed.user_id, claimed.id AS session_id, claimed.base + given.position - 1, given.id, given.payload::json,
        claimed.updated_at
    FROM claimed
    JOIN
        unnest((SELECT :numbers), (SELECT :ids), (SELECT :payloads)) WITH ORDINALITY
            AS given (number, id, payload, position)
        ON claimed.number = given.number
    RETURNING 1
)
SELECT number, updated_at, first_seq, message_count FROM claimed
