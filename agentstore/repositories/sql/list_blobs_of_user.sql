-- Read the highest version of each blob of a user, after a place.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, after_session text, after_app text, after text, limit bigint
-- Rows: session_id, app, name, version, size, hash, content_type, filename, metadata, saved_at; by the first three
-- Races: none, since it only reads
SELECT DISTINCT ON (b.session_id, b.app, b.name)
    b.session_id, b.app, b.name, b.version, b.size, b.hash, b.content_type, b.filename, b.metadata::text AS metadata,
    b.saved_at
FROM {schema}.blobs AS b
WHERE b.user_id = :user_id AND (b.session_id, b.app, b.name) > (:after_session, :after_app, :after)
ORDER BY b.session_id, b.app, b.name, b.version DESC
LIMIT :limit
