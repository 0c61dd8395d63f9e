-- Count the documents of all users that have expired.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: none
-- Rows: one: the number of documents, and the bytes of their contents
-- Races: none, since it only reads
SELECT
    count(*) AS count,
    coalesce(sum(pg_column_size(m.payload) + pg_column_size(m.lexemes)), 0)::bigint AS bytes
FROM {schema}.memories AS m
WHERE m.kind = 'document' AND m.id = m.session_id AND m.valid_until <= now()
