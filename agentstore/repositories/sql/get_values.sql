-- Read the values of an application, of a user in it, and of a session.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, app text, scope text
-- Rows: scope, key, the value as JSON text; by key. Of a session that does not exist there are none.
-- Races: none, since it only reads
--
-- `session_id` may be null. `scope` is the only scope to read, or null.
SELECT 'app' AS scope, v.key, v.value::text AS value
FROM {schema}.app_values AS v
WHERE v.app = :app AND coalesce(:scope = 'app', TRUE)
UNION ALL
SELECT 'user' AS scope, v.key, v.value::text AS value
FROM {schema}.user_values AS v
WHERE v.user_id = :user_id AND v.app = :app AND coalesce(:scope = 'user', TRUE)
UNION ALL
SELECT 'session' AS scope, v.key, v.value::text AS value
FROM {schema}.session_values AS v
JOIN {schema}.sessions AS s ON v.user_id = s.user_id AND v.session_id = s.id
WHERE v.user_id = :user_id AND v.session_id = :session_id AND coalesce(:scope = 'session', TRUE)
    AND coalesce(now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second', TRUE)
ORDER BY key
