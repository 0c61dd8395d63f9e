-- Read the size of each table of the schema and of its indexes.
--
-- Scope: none
-- Repeatable: yes
-- Parameters: none
-- Rows: for each index of a table: name of the table, estimated number of rows, bytes of its rows, bytes of its TOAST
--   table and of its maps, dead rows, age of the oldest transaction that is not frozen, time of the last ANALYZE, name
--   of the index, bytes of the index; one row without an index if a table has none
-- Races: none, since it only reads
SELECT
    tables.relname, greatest(tables.reltuples, 0)::bigint AS rows,
    pg_relation_size(tables.oid) AS bytes, pg_table_size(tables.oid) - pg_relation_size(tables.oid) AS toast_bytes,
    activity.n_dead_tup AS dead_rows, age(tables.relfrozenxid) AS freeze_age,
    greatest(activity.last_analyze, activity.last_autoanalyze) AS analyzed_at,
    indexes.relname AS index, pg_relation_size(indexes.oid) AS index_bytes
FROM pg_catalog.pg_class AS tables
JOIN pg_catalog.pg_namespace AS schemas ON tables.relnamespace = schemas.oid
JOIN pg_catalog.pg_stat_all_tables AS activity ON tables.oid = activity.relid
LEFT JOIN pg_catalog.pg_index ON tables.oid = pg_index.indrelid
LEFT JOIN pg_catalog.pg_class AS indexes ON pg_index.indexrelid = indexes.oid
WHERE schemas.nspname = {settings.schema} AND tables.relkind = 'r'
ORDER BY tables.relname, indexes.relname
