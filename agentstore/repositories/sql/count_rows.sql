-- Count the rows of each kind.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: none
-- Rows: one: numbers of users, sessions, messages, memories and state rounds; when the first session was created, and
--   the last one written to; numbers of values of applications, users and sessions, of blobs, and of checkpoints
-- Races: none, since it only reads
--
-- Each count is a subquery in FROM: Citus accepts none in a list of columns.
SELECT
    users, sessions, messages, memories, rounds, oldest, newest, app_values, user_values, session_values, blobs,
    checkpoints
FROM (SELECT count(*) AS users FROM {schema}.users) AS of_users
CROSS JOIN (
    SELECT
        count(*) AS sessions, coalesce(sum(next_seq - 1 - removed), 0)::bigint AS messages,
        min(created_at) AS oldest, max(updated_at) AS newest
    FROM {schema}.sessions
) AS of_sessions
CROSS JOIN (SELECT coalesce(sum(count), 0)::bigint AS memories FROM {schema}.memory_buckets) AS of_memories
CROSS JOIN (SELECT count(*) AS rounds FROM {schema}.state_rounds) AS of_rounds
CROSS JOIN (SELECT count(*) AS app_values FROM {schema}.app_values) AS of_app_values
CROSS JOIN (SELECT count(*) AS user_values FROM {schema}.user_values) AS of_user_values
CROSS JOIN (SELECT count(*) AS session_values FROM {schema}.session_values) AS of_session_values
CROSS JOIN (SELECT count(*) AS blobs FROM {schema}.blobs) AS of_blobs
CROSS JOIN (SELECT count(*) AS checkpoints FROM {schema}.checkpoints) AS of_checkpoints
