-- Append those of the messages that are not stored, unless one is stored with different text.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, ids text[], payloads text[], same text[], at timestamptz,
--   allow_differing boolean
-- Rows: one for each message: id; the stored text if that differs, else null; whether the message is new; its seq and
--   created_at, null if it is new and nothing was stored; how many messages the session has; whether it exists
-- Races: if a concurrent transaction changes the session after this statement's snapshot, nothing is stored, or it
--   fails with 23505: lock the session first then, and execute it again
--
-- `same` are stored texts that differ from the given ones and were found to have equal content. With `allow_differing`
-- the missing messages are stored even if others differ. `at` is the timestamp of the new messages, null for now().
WITH head AS MATERIALIZED (
    -- The version of the row. The update waits for a concurrent transaction, and would then change another version: but
    -- `known` is what was stored before, and what a rewind has deleted meanwhile would be missing between the messages.
    SELECT xmin AS version, next_seq - 1 - removed AS message_count
    FROM {schema}.sessions
    WHERE user_id = :user_id AND id = :session_id
        AND (now() - updated_at < coalesce(ttl, {settings.session_ttl}::bigint) * interval '1 second') IS NOT FALSE
),
known AS MATERIALIZED (
    SELECT
        given.id, given.payload, given.position, m.seq, m.created_at,
        m.seq IS NULL AS is_new,
        CASE
            WHEN m.payload::text <> given.payload AND array_position(:same, m.payload::text) IS NULL
                THEN m.payload::text
        END AS stored
    FROM unnest(:ids, :payloads) WITH ORDINALITY AS given (id, payload, position)
    LEFT JOIN {schema}.messages AS m
        ON given.id = m.id AND m.user_id = :user_id AND m.session_id = :session_id
),
counted AS (
    SELECT
        count(*) FILTER (WHERE is_new) AS missing, count(stored) AS differing,
        coalesce(:at, now()) AS written_at, date_trunc('minute', coalesce(:at, now())) AS listed_at
    FROM known
),
claimed AS (
    UPDATE {schema}.sessions AS s
    SET
        next_seq = s.next_seq + counted.missing,
        updated_at = greatest(s.updated_at, counted.written_at),
        listed_at = greatest(s.listed_at, counted.listed_at)
    FROM counted
    CROSS JOIN head
    WHERE s.user_id = :user_id AND s.id = :session_id AND s.xmin = head.version
        AND counted.missing > 0 AND (:allow_differing OR counted.differing = 0)
    RETURNING s.next_seq - counted.missing AS base, s.updated_at, s.next_seq - 1 - s.removed AS message_count
),
inserted AS (
    INSERT INTO {schema}.messages (user_id, session_id, seq, id, payload, created_at)
    SELECT
        :user_id, :session_id, claimed.base + row_number() OVER (ORDER BY known.position) - 1,
        known.id, known.payload::json, claimed.updated_at
    FROM known
    CROSS JOIN claimed
    WHERE known.is_new
    RETURNING id, seq, created_at
)
SELECT
    known.id, known.stored, known.is_new,
    coalesce(inserted.seq, known.seq) AS seq,
    coalesce(inserted.created_at, known.created_at) AS created_at,
    coalesce((SELECT message_count FROM claimed), (SELECT message_count FROM head)) AS message_count,
    (SELECT count(*) FROM head) = 1 AS has_session
FROM known
LEFT JOIN inserted ON known.is_new AND known.id = inserted.id
ORDER BY known.position
