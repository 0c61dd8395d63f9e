-- Read the highest version of each blob of a session whose name is in a range.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, app text, first text, after text, until text, limit bigint
-- Rows: name, version, size, hash, content_type, filename, metadata, saved_at; by name
-- Races: none, since it only reads
--
-- The names from `first` on, or after `after` if it is not null, and before `until`, if that is not null.
SELECT DISTINCT ON (b.name)
    b.name, b.version, b.size, b.hash, b.content_type, b.filename, b.metadata::text AS metadata, b.saved_at
FROM {schema}.blobs AS b
WHERE b.user_id = :user_id AND b.session_id = :session_id AND b.app = :app
    AND b.name >= coalesce(:after, :first) AND b.name IS DISTINCT FROM :after AND coalesce(b.name < :until, TRUE)
ORDER BY b.name, b.version DESC
LIMIT :limit
