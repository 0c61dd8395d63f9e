-- Store a checkpoint with the values of new versions, and create the session's head, and the user, if missing.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text, session_id text, epoch bigint, new_epoch bigint, changed_epoch bigint, needed_parent text,
--   namespace text, id text, parent_id text, run_id text, type text, size bigint, data bytea, metadata_type text,
--   metadata bytea, channels text[], versions text[], deltas text[], value_channels text[], value_versions text[],
--   value_types text[], value_sizes bigint[], value_data bytea[], value_sources text[], value_pieces bytea[]
-- Rows: epoch, stored: the channels whose value was stored, as opposed to those whose version existed; no row, and
--   nothing written but a head, if `epoch` is not null, and not that of the head, or `needed_parent` or a source is
--   missing
-- Races: the head's row is locked until the commit, so that no value is deleted that the new ones consist of: what
--   deletes values changes the epoch first. 23503 if the user or the head is deleted meanwhile.
--
-- The sources of a value are separated by line breaks.
WITH
-- include: ../../sql/insert_user.sql
saved AS (
    INSERT INTO {schema}.checkpoint_heads AS head (user_id, session_id, epoch)
    SELECT :user_id, :session_id, :new_epoch
    FROM owner
    ON CONFLICT (user_id, session_id) DO UPDATE
        SET
            updated_at = greatest(head.updated_at, excluded.updated_at),
            epoch = coalesce(:changed_epoch, head.epoch)
        WHERE :epoch IS NULL OR head.epoch = :epoch
    RETURNING head.epoch
),
head AS (
    -- A head that was deleted meanwhile has been created again, with another epoch.
    SELECT saved.epoch
    FROM saved
    WHERE
        (:epoch IS NULL OR saved.epoch = :epoch)
        -- The epoch may be known from a later read than that of the parent, whose values are then not known to exist.
        -- A failover to a standby that lagged behind loses checkpoints and values, and changes no epoch.
        AND (
            :needed_parent IS NULL
            OR EXISTS (
                SELECT
                FROM {schema}.checkpoints AS parent
                WHERE
                    parent.user_id = :user_id AND parent.session_id = :session_id AND parent.namespace = :namespace
                    AND parent.id = :needed_parent
            )
        )
        AND NOT EXISTS (
            SELECT
            FROM unnest(:value_channels, :value_sources) AS new (channel, sources)
            CROSS JOIN unnest(string_to_array(new.sources, E'\n')) AS source (version)
            WHERE
                (
                    SELECT v.version
                    FROM {schema}.checkpoint_values AS v
                    WHERE
                        v.user_id = :user_id AND v.session_id = :session_id AND v.namespace = :namespace
                        AND v.channel = new.channel AND v.version = source.version
                    LIMIT 1
                ) IS NULL
        )
),
checkpoint AS (
    INSERT INTO {schema}.checkpoints (
        user_id, session_id, namespace, id, parent_id, run_id, type, size, data, metadata_type, metadata, channels,
        versions, deltas
    )
    SELECT
        :user_id, :session_id, :namespace, :id, :parent_id, :run_id, :type, :size, :data, :metadata_type, :metadata,
        :channels, :versions, :deltas
    FROM head
    ON CONFLICT (user_id, session_id, namespace, id) DO UPDATE
        SET
            parent_id = excluded.parent_id,
            run_id = excluded.run_id,
            type = excluded.type,
            size = excluded.size,
            data = excluded.data,
            metadata_type = excluded.metadata_type,
            metadata = excluded.metadata,
            channels = excluded.channels,
            versions = excluded.versions,
            deltas = excluded.deltas
    RETURNING checkpoints.id
),
stored AS (
    INSERT INTO {schema}.checkpoint_values (
        user_id, session_id, namespace, channel, version, type, size, data, sources, pieces
    )
    SELECT
        :user_id, :session_id, :namespace, new.channel, new.version, new.type, new.size, new.data,
        string_to_array(new.sources, E'\n'), new.pieces
    FROM head, unnest(
            :value_channels, :value_versions, :value_types, :value_sizes, :value_data, :value_sources, :value_pieces
        ) AS new (channel, version, type, size, data, sources, pieces)
    ON CONFLICT (user_id, session_id, namespace, channel, version) DO NOTHING
    RETURNING checkpoint_values.channel
)
SELECT head.epoch, (SELECT array_agg(stored.channel) FROM stored) AS stored
FROM head
