-- Read the values of an application, of a user in it, and of a session.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, app text, scope text
-- Rows: scope, the values as one JSON object, by key; none for a scope without values or a session that does not exist
-- Races: none, since it only reads
--
-- `session_id` may be null. `scope` is the only scope to read, or null.
SELECT 'app' AS scope, json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
FROM {schema}.app_values AS v
WHERE v.app = :app AND coalesce(:scope = 'app', TRUE)
HAVING count(*) > 0
UNION ALL
SELECT 'user' AS scope, json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
FROM {schema}.user_values AS v
WHERE v.user_id = :user_id AND v.app = :app AND coalesce(:scope = 'user', TRUE)
HAVING count(*) > 0
UNION ALL
SELECT 'session' AS scope, json_object_agg(v.key, v.value ORDER BY v.key)::text AS object
FROM {schema}.session_values AS v
JOIN {schema}.sessions AS s ON v.user_id = s.user_id AND v.session_id = s.id
WHERE v.user_id = :user_id AND v.session_id = :session_id AND coalesce(:scope = 'session', TRUE)
    AND (now() - s.updated_at < coalesce(s.ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
HAVING count(*) > 0
