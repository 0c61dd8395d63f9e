-- Find documents of all users that have expired: some of them, those that expired first.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: limit bigint
-- Rows: user_id, id
-- Races: none, since it only reads
SELECT m.user_id, m.id
FROM {schema}.memories AS m
WHERE m.kind = 'document' AND m.id = m.session_id AND m.valid_until <= now()
ORDER BY m.valid_until
LIMIT :limit
