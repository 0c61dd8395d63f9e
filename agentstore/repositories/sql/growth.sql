-- Count the sessions that were created on each of the last days, and their messages.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: days bigint
-- Rows: day (its start in UTC), sessions, messages; days without sessions have none
-- Races: none, since it only reads
--
-- The messages are counted by the counters of their sessions. What is read are the sessions of these days, by the index
-- of their times of creation.
SELECT
    date_trunc('day', created_at, 'UTC') AS day,
    count(*) AS sessions,
    coalesce(sum(next_seq - 1 - removed), 0)::bigint AS messages
FROM {schema}.sessions
WHERE created_at >= date_trunc('day', now(), 'UTC') - (:days - 1) * interval '24 hours'
    AND created_at < date_trunc('day', now(), 'UTC') + interval '24 hours'
GROUP BY day
