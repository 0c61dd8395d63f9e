-- Extend the life of documents of a user that expire, and have not expired yet.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, ids text[], untils timestamptz[]
-- Rows: the ids of the documents whose life was extended
-- Races: a document that is deleted or expires meanwhile remains so; of concurrent calls the latest time remains
WITH expiring AS MATERIALIZED (
    SELECT m.session_id, given.until
    FROM unnest(:ids, :untils) AS given (id, until)
    JOIN {schema}.memories AS m ON given.id = m.session_id
    WHERE m.user_id = :user_id AND m.session_id = ANY(:ids) AND m.seq = 1 AND m.id = m.session_id
        AND m.kind = 'document' AND m.valid_until > now() AND m.valid_until < given.until
    ORDER BY m.session_id
    FOR NO KEY UPDATE OF m
)
UPDATE {schema}.memories AS document
SET valid_until = greatest(document.valid_until, expiring.until)
FROM expiring
WHERE document.user_id = :user_id AND document.session_id = expiring.session_id AND document.seq = 1
RETURNING document.id
