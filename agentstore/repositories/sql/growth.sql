-- Count the sessions that were created on each day between two, and their messages.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: since timestamptz, until timestamptz
-- Rows: day (its start in UTC), sessions, messages; days without sessions have none
-- Races: none, since it only reads
--
-- The messages are counted by the counters of their sessions. What is read are the sessions of these days, by the index
-- of their times of creation. The days are computed by the client: the time zone of a day is looked up for each row
-- otherwise, which takes three times as long.
SELECT
    date_bin(interval '24 hours', created_at, :since) AS day,
    count(*) AS sessions,
    coalesce(sum(next_seq - 1 - removed), 0)::bigint AS messages
FROM {schema}.sessions
WHERE created_at >= :since AND created_at < :until
GROUP BY day
