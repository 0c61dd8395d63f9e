-- Find the session of a user, of several the last used one, that has a message with this id.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, id text
-- Rows: one: the id of the session; none if there is none
-- Races: none, since it only reads
--
-- No index has the user and the id of a message alone: that of the messages of a session is searched for each session.
SELECT s.id
FROM {schema}.sessions AS s
JOIN LATERAL (
    SELECT m.seq
    FROM {schema}.messages AS m
    WHERE m.user_id = :user_id AND m.session_id = s.id AND m.id = :id
    LIMIT 1
) AS found ON TRUE
WHERE s.user_id = :user_id
    AND (now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
ORDER BY s.listed_at DESC, s.id DESC
LIMIT 1
