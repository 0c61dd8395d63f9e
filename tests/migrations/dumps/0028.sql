SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA agentstore;
CREATE FUNCTION agentstore.metadata_terms(metadata json) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE STRICT COST 500
    AS $$
        BEGIN
            RETURN ARRAY(
                SELECT jsonb_hash_extended(each.value, hashtextextended(each.key COLLATE "C", 0))
                FROM jsonb_each(metadata::jsonb) AS each
            );
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
            RETURN '{0}';
        END
        $$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE agentstore.agentstore_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE agentstore.app_values (
    app text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    value json NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE agentstore.blob_chunks (
    user_id text NOT NULL COLLATE pg_catalog."C",
    hash bytea NOT NULL,
    number bigint NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE ONLY agentstore.blob_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE agentstore.blobs (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    app text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    hash bytea NOT NULL,
    chunks bigint NOT NULL,
    size bigint NOT NULL,
    content_type text,
    filename text,
    metadata json DEFAULT '{}'::json NOT NULL,
    saved_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE agentstore.checkpoint_heads (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    epoch bigint DEFAULT ((EXTRACT(epoch FROM now()) * (1000000)::numeric))::bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE agentstore.checkpoint_values (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    namespace text NOT NULL COLLATE pg_catalog."C",
    channel text NOT NULL COLLATE pg_catalog."C",
    version text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL,
    size bigint NOT NULL,
    data bytea NOT NULL,
    sources text[] COLLATE pg_catalog."C",
    pieces bytea
);
ALTER TABLE ONLY agentstore.checkpoint_values ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE agentstore.checkpoint_writes (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    namespace text NOT NULL COLLATE pg_catalog."C",
    checkpoint_id text NOT NULL COLLATE pg_catalog."C",
    task_id text NOT NULL COLLATE pg_catalog."C",
    number bigint NOT NULL,
    task_path text NOT NULL COLLATE pg_catalog."C",
    channel text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL,
    size bigint NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE ONLY agentstore.checkpoint_writes ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE agentstore.checkpoints (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    namespace text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    parent_id text COLLATE pg_catalog."C",
    run_id text COLLATE pg_catalog."C",
    type text NOT NULL,
    size bigint NOT NULL,
    data bytea NOT NULL,
    metadata_type text NOT NULL,
    metadata bytea NOT NULL,
    channels text[] NOT NULL COLLATE pg_catalog."C",
    versions text[] NOT NULL COLLATE pg_catalog."C",
    deltas text[] COLLATE pg_catalog."C",
    saved_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY agentstore.checkpoints ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE agentstore.memories (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    payload json NOT NULL,
    role text,
    is_question boolean NOT NULL,
    "time" timestamp with time zone DEFAULT now() NOT NULL,
    tokens bigint NOT NULL,
    lexemes tsvector NOT NULL,
    analysis text NOT NULL,
    is_cut boolean DEFAULT false NOT NULL,
    kind text DEFAULT 'message'::text NOT NULL,
    importance double precision,
    valid_from timestamp with time zone,
    valid_until timestamp with time zone,
    namespace text,
    question_share smallint,
    speaker text
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.05', autovacuum_analyze_scale_factor='0.02');
CREATE TABLE agentstore.memory_buckets (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    count bigint DEFAULT 0 NOT NULL,
    tokens bigint DEFAULT 0 NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.05', autovacuum_analyze_scale_factor='0.02');
CREATE TABLE agentstore.memory_extractions (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    is_open boolean DEFAULT true NOT NULL,
    attempts bigint DEFAULT 0 NOT NULL,
    outages bigint DEFAULT 0 NOT NULL,
    run_after timestamp with time zone NOT NULL,
    lease text,
    leased_until timestamp with time zone,
    failed_at timestamp with time zone,
    error text,
    created_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE agentstore.messages (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    payload json NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.05', autovacuum_analyze_scale_factor='0.02');
CREATE TABLE agentstore.sandboxes (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL COLLATE pg_catalog."C",
    generation bigint NOT NULL,
    state text NOT NULL,
    provider text NOT NULL,
    owner text NOT NULL,
    host text NOT NULL,
    handle text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    CONSTRAINT sandboxes_state_check CHECK ((state = ANY (ARRAY['starting'::text, 'ready'::text, 'ending'::text])))
);
CREATE TABLE agentstore.session_values (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    value json NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE agentstore.sessions (
    user_id text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    next_seq bigint DEFAULT 1 NOT NULL,
    title text,
    metadata json DEFAULT '{}'::json NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    listed_at timestamp with time zone DEFAULT date_trunc('minute'::text, now()) NOT NULL,
    forked_from text COLLATE pg_catalog."C",
    forked_at bigint,
    ttl bigint,
    removed bigint DEFAULT 0 NOT NULL,
    app text COLLATE pg_catalog."C",
    CONSTRAINT sessions_ttl_check CHECK ((ttl > 0))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.05', autovacuum_analyze_scale_factor='0.02');
CREATE TABLE agentstore.state_heads (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    next_round bigint DEFAULT 1 NOT NULL,
    last_round bigint DEFAULT 0 NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.05', autovacuum_analyze_scale_factor='0.02');
CREATE TABLE agentstore.state_rounds (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    round bigint NOT NULL,
    payload json,
    packed bytea,
    metadata json DEFAULT '{}'::json NOT NULL,
    size bigint NOT NULL,
    saved_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT state_rounds_payload_check CHECK (((payload IS NULL) <> (packed IS NULL)))
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.05', autovacuum_analyze_scale_factor='0.02');
ALTER TABLE ONLY agentstore.state_rounds ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE ONLY agentstore.state_rounds ALTER COLUMN packed SET STORAGE EXTERNAL;
CREATE TABLE agentstore.user_values (
    user_id text NOT NULL COLLATE pg_catalog."C",
    app text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    value json NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE agentstore.users (
    id text NOT NULL COLLATE pg_catalog."C",
    metadata json DEFAULT '{}'::json NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    memories bigint,
    memory_tokens bigint
);
CREATE TABLE agentstore.workspace_chunks (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL COLLATE pg_catalog."C",
    number bigint NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE ONLY agentstore.workspace_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE agentstore.workspaces (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL COLLATE pg_catalog."C",
    chunks bigint NOT NULL,
    size bigint NOT NULL,
    saved_at timestamp with time zone DEFAULT now() NOT NULL
);
INSERT INTO agentstore.agentstore_version VALUES ('0028');
INSERT INTO agentstore.app_values VALUES ('', '', '[1, "\u0000"]');
INSERT INTO agentstore.app_values VALUES ('密 app', '密:%', '{"z":1, "a":2}');
INSERT INTO agentstore.blob_chunks VALUES ('', '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, '\x00ff');
INSERT INTO agentstore.blob_chunks VALUES ('alice', '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, '\x00ff');
INSERT INTO agentstore.blob_chunks VALUES ('密:%', '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, '\x00ff');
INSERT INTO agentstore.blob_chunks VALUES ('a\b''c ', '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, '\x00ff');
INSERT INTO agentstore.blobs VALUES ('', '会:%', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('alice', '会:%', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('密:%', '会:%', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('a\b''c ', '会:%', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('', '', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('alice', '', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('密:%', '', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('a\b''c ', '', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('alice', 's', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('密:%', 's', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('', 's', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('a\b''c ', 's', '密 app', 'a/密', 0, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('', '会:%', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('alice', '会:%', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('密:%', '会:%', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('a\b''c ', '会:%', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('', '', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('alice', '', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('密:%', '', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('a\b''c ', '', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('alice', 's', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('密:%', 's', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('', 's', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.blobs VALUES ('a\b''c ', 's', '密 app', 'a/密', 1, '\x06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8', 1, 2, 'text/plain', '密.txt', '{"k":"\u0000"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('', '会:%', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('alice', '会:%', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('密:%', '会:%', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('a\b''c ', '会:%', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('', '', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('alice', '', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('密:%', '', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('a\b''c ', '', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('alice', 's', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('密:%', 's', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('', 's', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_heads VALUES ('a\b''c ', 's', 7, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoint_values VALUES ('', '会:%', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('alice', '会:%', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('密:%', '会:%', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('a\b''c ', '会:%', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('', '', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('alice', '', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('密:%', '', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('a\b''c ', '', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('alice', 's', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('密:%', 's', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('', 's', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('a\b''c ', 's', '密', 'a b', '1.0.5', 'msgpack', 2, '\x00ff', NULL, NULL);
INSERT INTO agentstore.checkpoint_values VALUES ('', '会:%', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('alice', '会:%', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('密:%', '会:%', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('a\b''c ', '会:%', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('', '', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('alice', '', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('密:%', '', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('a\b''c ', '', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('alice', 's', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('密:%', 's', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('', 's', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_values VALUES ('a\b''c ', 's', '密', 'a b', '2.0.5', 'msgpack', 1, '\x01', '{1.0.5}', '\x0001010200');
INSERT INTO agentstore.checkpoint_writes VALUES ('', '会:%', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('alice', '会:%', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('密:%', '会:%', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('a\b''c ', '会:%', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('', '', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('alice', '', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('密:%', '', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('a\b''c ', '', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('alice', 's', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('密:%', 's', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('', 's', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('a\b''c ', 's', '密', '2', 'a task', 0, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('', '会:%', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('alice', '会:%', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('密:%', '会:%', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('a\b''c ', '会:%', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('', '', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('alice', '', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('密:%', '', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('a\b''c ', '', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('alice', 's', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('密:%', 's', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('', 's', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoint_writes VALUES ('a\b''c ', 's', '密', '2', 'a task', 1, '~x', '密', 'msgpack', 2, '\x00ff');
INSERT INTO agentstore.checkpoints VALUES ('', '会:%', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('alice', '会:%', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('密:%', '会:%', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('a\b''c ', '会:%', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('', '', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('alice', '', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('密:%', '', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('a\b''c ', '', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('alice', 's', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('密:%', 's', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('', 's', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('a\b''c ', 's', '密', '1', NULL, 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{1.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('', '会:%', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('alice', '会:%', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('密:%', '会:%', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('a\b''c ', '会:%', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('', '', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('alice', '', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('密:%', '', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('a\b''c ', '', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('alice', 's', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('密:%', 's', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('', 's', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.checkpoints VALUES ('a\b''c ', 's', '密', '2', '1', 'a run', 'msgpack', 2, '\x00ff', 'json', '\x7b7d', '{"a b",密}', '{2.0.5,=1}', '{"a b"}', '2025-01-02 03:04:05+00');
INSERT INTO agentstore.memories VALUES ('', '', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', '', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('密:%', '', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('a\b''c ', '', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('', '会:%', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', '会:%', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('密:%', '会:%', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('a\b''c ', '会:%', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('', '', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', '', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('密:%', '', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('a\b''c ', '', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('', '会:%', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', '会:%', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('密:%', '会:%', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('a\b''c ', '会:%', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('', '', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', '', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('密:%', '', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('a\b''c ', '', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('', '会:%', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', '会:%', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('密:%', '会:%', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('a\b''c ', '会:%', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('', '', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', '', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('密:%', '', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('a\b''c ', '', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('', '会:%', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', '会:%', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('密:%', '会:%', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('a\b''c ', '会:%', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', NULL, NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', 's', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', '密/a b', NULL, NULL);
INSERT INTO agentstore.memories VALUES ('密:%', 's', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', '密/a b', NULL, NULL);
INSERT INTO agentstore.memories VALUES ('', 's', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', '密/a b', NULL, NULL);
INSERT INTO agentstore.memories VALUES ('a\b''c ', 's', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 4 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'fact', 0.5, '2025-01-01 00:00:00+00', '2031-01-01 00:00:00+00', '密/a b', NULL, NULL);
INSERT INTO agentstore.memories VALUES ('alice', 's', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('密:%', 's', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('', 's', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('a\b''c ', 's', 1, 'm1', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 1 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('alice', 's', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('密:%', 's', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('', 's', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('a\b''c ', 's', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 2 苹果"}]}', 'user', true, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', false, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('alice', 's', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('密:%', 's', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('', 's', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memories VALUES ('a\b''c ', 's', 3, 'm3', '{"role" : "user", "content" : [{"type" : "text", "text" : "apples 3 苹果"}]}', 'user', false, '2025-01-02 03:04:05+00', 3, '''apples'':1 ''苹果'':2', 'some', true, 'message', NULL, NULL, NULL, '密/a b', 0, 'ann 密');
INSERT INTO agentstore.memory_buckets VALUES ('alice', 's', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('密:%', 's', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('', '', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('alice', '', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('密:%', '', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('a\b''c ', '', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('', 's', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('a\b''c ', 's', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('', '会:%', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('alice', '会:%', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('密:%', '会:%', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_buckets VALUES ('a\b''c ', '会:%', 4, 12, '2026-11-30 22:01:55.112046+00');
INSERT INTO agentstore.memory_extractions VALUES ('alice', 's', 1, 3, false, 1, 2, '2025-01-02 03:04:05+00', NULL, NULL, '2025-01-02 03:04:05+00', 'out', '2026-11-30 22:01:55.129558+00');
INSERT INTO agentstore.memory_extractions VALUES ('密:%', 's', 1, 3, false, 1, 2, '2025-01-02 03:04:05+00', NULL, NULL, '2025-01-02 03:04:05+00', 'out', '2026-11-30 22:01:55.129558+00');
INSERT INTO agentstore.memory_extractions VALUES ('', 's', 1, 3, false, 1, 2, '2025-01-02 03:04:05+00', NULL, NULL, '2025-01-02 03:04:05+00', 'out', '2026-11-30 22:01:55.129558+00');
INSERT INTO agentstore.memory_extractions VALUES ('a\b''c ', 's', 1, 3, false, 1, 2, '2025-01-02 03:04:05+00', NULL, NULL, '2025-01-02 03:04:05+00', 'out', '2026-11-30 22:01:55.129558+00');
INSERT INTO agentstore.memory_extractions VALUES ('alice', 's', 4, 6, false, 4, 5, '2025-01-02 03:04:05+00', 'lease', '2025-01-02 03:05:05+00', NULL, NULL, '2026-11-30 22:01:55.129558+00');
INSERT INTO agentstore.memory_extractions VALUES ('密:%', 's', 4, 6, false, 4, 5, '2025-01-02 03:04:05+00', 'lease', '2025-01-02 03:05:05+00', NULL, NULL, '2026-11-30 22:01:55.129558+00');
INSERT INTO agentstore.memory_extractions VALUES ('', 's', 4, 6, false, 4, 5, '2025-01-02 03:04:05+00', 'lease', '2025-01-02 03:05:05+00', NULL, NULL, '2026-11-30 22:01:55.129558+00');
INSERT INTO agentstore.memory_extractions VALUES ('a\b''c ', 's', 4, 6, false, 4, 5, '2025-01-02 03:04:05+00', 'lease', '2025-01-02 03:05:05+00', NULL, NULL, '2026-11-30 22:01:55.129558+00');
INSERT INTO agentstore.messages VALUES ('', '', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('', 's', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 1, 'm1', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 1 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:06+00');
INSERT INTO agentstore.messages VALUES ('', '', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 2 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:07+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 2 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:07+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 2 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:07+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 2 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:07+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 2 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:07+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 2 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:07+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 2 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:07+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 2, 'm2', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 2 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:07+00');
INSERT INTO agentstore.messages VALUES ('', '', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('', 's', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 3, 'm3', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 3 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:08+00');
INSERT INTO agentstore.messages VALUES ('', '', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('', 's', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 4, 'm4', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 4 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:09+00');
INSERT INTO agentstore.messages VALUES ('', '', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('', 's', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 5, 'm5', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 5 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:10+00');
INSERT INTO agentstore.messages VALUES ('', '', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('', 's', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 6, 'm6', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 6 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:11+00');
INSERT INTO agentstore.messages VALUES ('', '', 7, 'm7', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 7 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:12+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 7, 'm7', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 7 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:12+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 7, 'm7', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 7 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:12+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 7, 'm7', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 7 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:12+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 7, 'm7', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 7 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:12+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 7, 'm7', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 7 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:12+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 7, 'm7', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 7 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:12+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 7, 'm7', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 7 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:12+00');
INSERT INTO agentstore.messages VALUES ('', '', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('', 's', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 8, 'm8', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 8 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:13+00');
INSERT INTO agentstore.messages VALUES ('', '', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('', 's', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 9, 'm9', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 9 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:14+00');
INSERT INTO agentstore.messages VALUES ('', '', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('', 's', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 10, 'm10', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 10 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:15+00');
INSERT INTO agentstore.messages VALUES ('', '', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('', 's', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 11, 'm11', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 11 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:16+00');
INSERT INTO agentstore.messages VALUES ('', '', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('', 's', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 12, 'm12', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 12 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:17+00');
INSERT INTO agentstore.messages VALUES ('', '', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('', 's', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 13, 'm13', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 13 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:18+00');
INSERT INTO agentstore.messages VALUES ('', '', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('', 's', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 14, 'm14', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 14 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:19+00');
INSERT INTO agentstore.messages VALUES ('', '', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('', 's', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 15, 'm15', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 15 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:20+00');
INSERT INTO agentstore.messages VALUES ('', '', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('', 's', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 16, 'm16', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 16 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:21+00');
INSERT INTO agentstore.messages VALUES ('', '', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('', 's', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 17, 'm17', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 17 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:22+00');
INSERT INTO agentstore.messages VALUES ('', '', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('', 's', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 18, 'm18', '{"role" : "user", "content" : [{"type" : "text", "text" : "number 18 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:23+00');
INSERT INTO agentstore.messages VALUES ('', '', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('alice', '', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('密:%', '', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('', 's', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', 's', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('', '会:%', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('alice', '会:%', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('密:%', '会:%', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('a\b''c ', '会:%', 19, 'm19', '{"role" : "assistant", "content" : [{"type" : "text", "text" : "number 19 红色的苹果 \"q\" \\ é😀"}]}', '2025-01-02 03:04:24+00');
INSERT INTO agentstore.messages VALUES ('alice', 's', 20, 'large', '{"role": "user", "content": [{"type": "text", "text": "密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said "}]}', '2026-11-30 22:01:55.061696+00');
INSERT INTO agentstore.messages VALUES ('密:%', 's', 20, 'large', '{"role": "user", "content": [{"type": "text", "text": "密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said 密 \\\u0000\ud800 said "}]}', '2026-11-30 22:01:55.061696+00');
INSERT INTO agentstore.sandboxes VALUES ('alice', 's', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('密:%', 's', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('', 's', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('a\b''c ', 's', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('', '会:%', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('alice', '会:%', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('密:%', '会:%', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('a\b''c ', '会:%', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('', '', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('alice', '', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('密:%', '', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.sandboxes VALUES ('a\b''c ', '', 'base', 7, 'ready', 'remote', 'owner', 'host', '密', '2025-01-02 03:04:05+00', '2031-01-01 00:00:00+00');
INSERT INTO agentstore.session_values VALUES ('', '会:%', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('alice', '会:%', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('密:%', '会:%', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('a\b''c ', '会:%', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('', '', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('alice', '', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('密:%', '', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('a\b''c ', '', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('alice', 's', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('密:%', 's', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('', 's', '密:%', '{"n":1}');
INSERT INTO agentstore.session_values VALUES ('a\b''c ', 's', '密:%', '{"n":1}');
INSERT INTO agentstore.sessions VALUES ('', '会:%', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', 's', 3, NULL, 0, NULL);
INSERT INTO agentstore.sessions VALUES ('alice', '会:%', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', 's', 3, NULL, 0, NULL);
INSERT INTO agentstore.sessions VALUES ('密:%', '会:%', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', 's', 3, NULL, 0, NULL);
INSERT INTO agentstore.sessions VALUES ('a\b''c ', '会:%', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', 's', 3, NULL, 0, NULL);
INSERT INTO agentstore.sessions VALUES ('', '', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', NULL, NULL, 2000000000, 0, NULL);
INSERT INTO agentstore.sessions VALUES ('alice', '', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', NULL, NULL, 2000000000, 0, NULL);
INSERT INTO agentstore.sessions VALUES ('密:%', '', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', NULL, NULL, 2000000000, 0, NULL);
INSERT INTO agentstore.sessions VALUES ('a\b''c ', '', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', NULL, NULL, 2000000000, 0, NULL);
INSERT INTO agentstore.sessions VALUES ('alice', 's', 21, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', NULL, NULL, NULL, 2, '密 app');
INSERT INTO agentstore.sessions VALUES ('密:%', 's', 21, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', NULL, NULL, NULL, 2, '密 app');
INSERT INTO agentstore.sessions VALUES ('', 's', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', NULL, NULL, NULL, 2, '密 app');
INSERT INTO agentstore.sessions VALUES ('a\b''c ', 's', 20, 'Reise nach 杭州', '{"tags":["x"]}', '2025-01-02 03:04:05.678901+00', '2025-02-03 04:05:06+00', '2025-02-03 04:05:00+00', NULL, NULL, NULL, 2, '密 app');
INSERT INTO agentstore.state_heads VALUES ('alice', 's', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('密:%', 's', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('', '', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('alice', '', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('密:%', '', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('a\b''c ', '', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('', 's', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('a\b''c ', 's', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('', '会:%', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('alice', '会:%', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('密:%', '会:%', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_heads VALUES ('a\b''c ', '会:%', 4, 3, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('alice', 's', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('密:%', 's', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('', '', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('alice', '', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('密:%', '', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('a\b''c ', '', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('', 's', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('a\b''c ', 's', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('', '会:%', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('alice', '会:%', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('密:%', '会:%', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('a\b''c ', '会:%', 2, '{"n" : 2, "x" : "密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密密"}', NULL, '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('alice', 's', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('密:%', 's', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('', '', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('alice', '', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('密:%', '', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('a\b''c ', '', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('', 's', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('a\b''c ', 's', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('', '会:%', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('alice', '会:%', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('密:%', '会:%', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.state_rounds VALUES ('a\b''c ', '会:%', 3, NULL, '\x28b52ffd040011000000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff', '{"k":"\u0000"}', 612, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.user_values VALUES ('', '密 app', '密:%', '"\ud800"');
INSERT INTO agentstore.user_values VALUES ('alice', '密 app', '密:%', '"\ud800"');
INSERT INTO agentstore.user_values VALUES ('密:%', '密 app', '密:%', '"\ud800"');
INSERT INTO agentstore.user_values VALUES ('a\b''c ', '密 app', '密:%', '"\ud800"');
INSERT INTO agentstore.users VALUES ('', '{"z":1, "a":"\u0000"}', '2025-01-02 03:04:05+00', 7, 9);
INSERT INTO agentstore.users VALUES ('alice', '{"z":1, "a":"\u0000"}', '2025-01-02 03:04:05+00', 7, 9);
INSERT INTO agentstore.users VALUES ('密:%', '{"z":1, "a":"\u0000"}', '2025-01-02 03:04:05+00', 7, 9);
INSERT INTO agentstore.users VALUES ('a\b''c ', '{"z":1, "a":"\u0000"}', '2025-01-02 03:04:05+00', 7, 9);
INSERT INTO agentstore.workspace_chunks VALUES ('alice', 's', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('密:%', 's', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('', 's', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('a\b''c ', 's', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('', '会:%', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('alice', '会:%', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('密:%', '会:%', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('a\b''c ', '会:%', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('', '', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('alice', '', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('密:%', '', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('a\b''c ', '', 'base', 1, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('alice', 's', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('密:%', 's', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('', 's', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('a\b''c ', 's', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('', '会:%', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('alice', '会:%', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('密:%', '会:%', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('a\b''c ', '会:%', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('', '', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('alice', '', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('密:%', '', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspace_chunks VALUES ('a\b''c ', '', 'base', 2, '\x00ff');
INSERT INTO agentstore.workspaces VALUES ('alice', 's', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('密:%', 's', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('', 's', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('a\b''c ', 's', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('', '会:%', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('alice', '会:%', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('密:%', '会:%', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('a\b''c ', '会:%', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('', '', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('alice', '', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('密:%', '', 'base', 2, 4, '2025-01-02 03:04:05+00');
INSERT INTO agentstore.workspaces VALUES ('a\b''c ', '', 'base', 2, 4, '2025-01-02 03:04:05+00');
ALTER TABLE ONLY agentstore.agentstore_version
    ADD CONSTRAINT agentstore_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY agentstore.app_values
    ADD CONSTRAINT app_values_pkey PRIMARY KEY (app, key);
ALTER TABLE ONLY agentstore.blob_chunks
    ADD CONSTRAINT blob_chunks_pkey PRIMARY KEY (user_id, hash, number);
ALTER TABLE ONLY agentstore.blobs
    ADD CONSTRAINT blobs_pkey PRIMARY KEY (user_id, session_id, app, name, version);
ALTER TABLE ONLY agentstore.checkpoint_heads
    ADD CONSTRAINT checkpoint_heads_pkey PRIMARY KEY (user_id, session_id);
ALTER TABLE ONLY agentstore.checkpoint_values
    ADD CONSTRAINT checkpoint_values_pkey PRIMARY KEY (user_id, session_id, namespace, channel, version);
ALTER TABLE ONLY agentstore.checkpoint_writes
    ADD CONSTRAINT checkpoint_writes_pkey PRIMARY KEY (user_id, session_id, namespace, checkpoint_id, task_id, number);
ALTER TABLE ONLY agentstore.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (user_id, session_id, namespace, id);
ALTER TABLE ONLY agentstore.memories
    ADD CONSTRAINT memories_id_user_id_session_id_key UNIQUE (id, user_id, session_id);
ALTER TABLE ONLY agentstore.memories
    ADD CONSTRAINT memories_pkey PRIMARY KEY (user_id, session_id, seq);
ALTER TABLE ONLY agentstore.memory_buckets
    ADD CONSTRAINT memory_buckets_pkey PRIMARY KEY (user_id, session_id);
ALTER TABLE ONLY agentstore.memory_extractions
    ADD CONSTRAINT memory_extractions_pkey PRIMARY KEY (user_id, session_id, first_seq);
ALTER TABLE ONLY agentstore.messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (user_id, session_id, seq);
ALTER TABLE ONLY agentstore.messages
    ADD CONSTRAINT messages_user_id_session_id_id_key UNIQUE (user_id, session_id, id);
ALTER TABLE ONLY agentstore.sandboxes
    ADD CONSTRAINT sandboxes_pkey PRIMARY KEY (user_id, session_id, type);
ALTER TABLE ONLY agentstore.session_values
    ADD CONSTRAINT session_values_pkey PRIMARY KEY (user_id, session_id, key);
ALTER TABLE ONLY agentstore.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (user_id, id);
ALTER TABLE ONLY agentstore.state_heads
    ADD CONSTRAINT state_heads_pkey PRIMARY KEY (user_id, session_id);
ALTER TABLE ONLY agentstore.state_rounds
    ADD CONSTRAINT state_rounds_pkey PRIMARY KEY (user_id, session_id, round);
ALTER TABLE ONLY agentstore.user_values
    ADD CONSTRAINT user_values_pkey PRIMARY KEY (user_id, app, key);
ALTER TABLE ONLY agentstore.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);
ALTER TABLE ONLY agentstore.workspace_chunks
    ADD CONSTRAINT workspace_chunks_pkey PRIMARY KEY (user_id, session_id, type, number);
ALTER TABLE ONLY agentstore.workspaces
    ADD CONSTRAINT workspaces_pkey PRIMARY KEY (user_id, session_id, type);
CREATE INDEX blobs_user_id_hash_idx ON agentstore.blobs USING btree (user_id, hash);
CREATE INDEX checkpoint_heads_session_id_idx ON agentstore.checkpoint_heads USING btree (session_id);
CREATE INDEX checkpoints_run_id_idx ON agentstore.checkpoints USING btree (run_id) WHERE (run_id IS NOT NULL);
CREATE INDEX memories_expiring_idx ON agentstore.memories USING btree (valid_until) WHERE ((kind = 'document'::text) AND (id = session_id) AND (valid_until IS NOT NULL));
CREATE INDEX memories_items_idx ON agentstore.memories USING btree (user_id, "time", id) WHERE (kind <> 'message'::text);
CREATE INDEX memories_lexemes_idx ON agentstore.memories USING gin (lexemes) WITH (gin_pending_list_limit='128', fastupdate=off);
CREATE INDEX memories_namespaces_idx ON agentstore.memories USING btree (user_id, namespace COLLATE "C") WHERE ((kind = 'document'::text) AND (id = session_id));
CREATE INDEX memory_extractions_due_idx ON agentstore.memory_extractions USING btree (run_after) WHERE (failed_at IS NULL);
CREATE INDEX memory_extractions_failed_idx ON agentstore.memory_extractions USING btree (user_id, session_id, first_seq) WHERE (failed_at IS NOT NULL);
CREATE INDEX memory_extractions_leased_idx ON agentstore.memory_extractions USING btree (user_id) WHERE (lease IS NOT NULL);
CREATE UNIQUE INDEX memory_extractions_open_idx ON agentstore.memory_extractions USING btree (user_id, session_id) WHERE is_open;
CREATE INDEX sandboxes_lease_until_idx ON agentstore.sandboxes USING btree (lease_until);
CREATE INDEX sessions_app_listed_at_idx ON agentstore.sessions USING btree (app, listed_at) WHERE (app IS NOT NULL);
CREATE INDEX sessions_created_at_user_id_id_idx ON agentstore.sessions USING btree (created_at, user_id, id);
CREATE INDEX sessions_listed_at_idx ON agentstore.sessions USING btree (listed_at);
CREATE INDEX sessions_metadata_idx ON agentstore.sessions USING gin (agentstore.metadata_terms(metadata)) WITH (fastupdate=off) WHERE ((metadata)::text <> '{}'::text);
CREATE INDEX sessions_ttl_idx ON agentstore.sessions USING btree (user_id, id) WHERE (ttl IS NOT NULL);
CREATE INDEX sessions_user_id_created_at_id_idx ON agentstore.sessions USING btree (user_id, created_at, id);
CREATE INDEX sessions_user_id_listed_at_id_idx ON agentstore.sessions USING btree (user_id, listed_at, id);
ALTER TABLE ONLY agentstore.blob_chunks
    ADD CONSTRAINT blob_chunks_user_id_fkey FOREIGN KEY (user_id) REFERENCES agentstore.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.blobs
    ADD CONSTRAINT blobs_user_id_fkey FOREIGN KEY (user_id) REFERENCES agentstore.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.checkpoint_heads
    ADD CONSTRAINT checkpoint_heads_user_id_fkey FOREIGN KEY (user_id) REFERENCES agentstore.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.checkpoint_values
    ADD CONSTRAINT checkpoint_values_user_id_session_id_fkey FOREIGN KEY (user_id, session_id) REFERENCES agentstore.checkpoint_heads(user_id, session_id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.checkpoint_writes
    ADD CONSTRAINT checkpoint_writes_user_id_session_id_fkey FOREIGN KEY (user_id, session_id) REFERENCES agentstore.checkpoint_heads(user_id, session_id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.checkpoints
    ADD CONSTRAINT checkpoints_user_id_session_id_fkey FOREIGN KEY (user_id, session_id) REFERENCES agentstore.checkpoint_heads(user_id, session_id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.memories
    ADD CONSTRAINT memories_user_id_session_id_fkey FOREIGN KEY (user_id, session_id) REFERENCES agentstore.memory_buckets(user_id, session_id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.memory_buckets
    ADD CONSTRAINT memory_buckets_user_id_fkey FOREIGN KEY (user_id) REFERENCES agentstore.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.memory_extractions
    ADD CONSTRAINT memory_extractions_user_id_session_id_fkey FOREIGN KEY (user_id, session_id) REFERENCES agentstore.memory_buckets(user_id, session_id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.messages
    ADD CONSTRAINT messages_user_id_session_id_fkey FOREIGN KEY (user_id, session_id) REFERENCES agentstore.sessions(user_id, id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.sandboxes
    ADD CONSTRAINT sandboxes_user_id_fkey FOREIGN KEY (user_id) REFERENCES agentstore.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.session_values
    ADD CONSTRAINT session_values_user_id_session_id_fkey FOREIGN KEY (user_id, session_id) REFERENCES agentstore.sessions(user_id, id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.sessions
    ADD CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES agentstore.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.state_heads
    ADD CONSTRAINT state_heads_user_id_fkey FOREIGN KEY (user_id) REFERENCES agentstore.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.state_rounds
    ADD CONSTRAINT state_rounds_user_id_session_id_fkey FOREIGN KEY (user_id, session_id) REFERENCES agentstore.state_heads(user_id, session_id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.user_values
    ADD CONSTRAINT user_values_user_id_fkey FOREIGN KEY (user_id) REFERENCES agentstore.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.workspace_chunks
    ADD CONSTRAINT workspace_chunks_user_id_session_id_type_fkey FOREIGN KEY (user_id, session_id, type) REFERENCES agentstore.workspaces(user_id, session_id, type) ON DELETE CASCADE;
ALTER TABLE ONLY agentstore.workspaces
    ADD CONSTRAINT workspaces_user_id_fkey FOREIGN KEY (user_id) REFERENCES agentstore.users(id) ON DELETE CASCADE;
