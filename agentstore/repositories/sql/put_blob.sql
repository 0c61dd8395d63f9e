-- Store the next version of a blob, whose content is stored.
--
-- Scope: user
-- Repeatable: no
-- Parameters: user_id text, session_id text, app text, name text, hash bytea, chunks bigint, size bigint,
--   content_type text, filename text, metadata text
-- Rows: version, saved_at
-- Races: none: the row of the user must be locked
INSERT INTO {schema}.blobs (
    user_id, session_id, app, name, version, hash, chunks, size, content_type, filename, metadata
)
SELECT
    :user_id, :session_id, :app, :name, coalesce(max(b.version) + 1, 0), :hash, :chunks, :size, :content_type,
    :filename, :metadata::json
FROM {schema}.blobs AS b
WHERE b.user_id = :user_id AND b.session_id = :session_id AND b.app = :app AND b.name = :name
RETURNING version, saved_at
