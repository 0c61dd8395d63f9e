-- Read a page of users to export, each with its approximate number of messages, memories and state rounds.
--
-- Scope: all
-- Repeatable: yes
-- Parameters: after text, limit bigint
-- Rows: id, number of rows; by id, those after `after`, or the first page if that is null
-- Races: none, since it only reads
SELECT
    users.id,
    (
        (SELECT coalesce(sum(s.next_seq), 0) FROM {schema}.sessions AS s WHERE s.user_id = users.id)
        + (SELECT coalesce(sum(b.count), 0) FROM {schema}.memory_buckets AS b WHERE b.user_id = users.id)
        -- Clients can choose the numbers of rounds, so the highest may be far larger than their count.
        + (
            SELECT coalesce(sum(least(h.last_round, 1000000)), 0)
            FROM {schema}.state_heads AS h
            WHERE h.user_id = users.id
        )
    )::bigint AS rows
FROM {schema}.users
-- '' is a valid id, so there is no value that sorts before all ids.
WHERE users.id >= coalesce(:after, '') AND users.id IS DISTINCT FROM :after
ORDER BY users.id
LIMIT :limit
