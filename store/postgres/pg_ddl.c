/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_schema.h"
#include "store/postgres/pg_text.h"

/*
 * What pgqrs' migrations make, by the same names: its clients and its migrator find what they
 * expect. Everything is found and made in the first schema of search_path.
 */

const char pgqrs_pg_ddl_ledger[] =
    "CREATE TABLE IF NOT EXISTS _sqlx_migrations (version bigint PRIMARY KEY,"
    " description text NOT NULL, installed_on timestamptz NOT NULL DEFAULT now(),"
    " success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL)";

#define STATUS_DDL                                                                                 \
    "DO $$ BEGIN IF to_regtype('worker_status') IS NULL THEN CREATE TYPE worker_status AS ENUM"    \
    " ('ready', 'polling', 'suspended', 'interrupted', 'stopped'); END IF; END $$"

#define QUEUES_DDL                                                                                 \
    "CREATE TABLE IF NOT EXISTS pgqrs_queues (id bigserial PRIMARY KEY,"                           \
    " queue_name varchar NOT NULL UNIQUE, created_at timestamptz NOT NULL DEFAULT now())"

#define WORKERS_DDL                                                                                \
    "CREATE TABLE IF NOT EXISTS pgqrs_workers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY"     \
    " KEY, name text NOT NULL UNIQUE, queue_id bigint, started_at timestamptz DEFAULT now(),"      \
    " heartbeat_at timestamptz DEFAULT now(), shutdown_at timestamptz,"                            \
    " status worker_status NOT NULL DEFAULT 'ready', CONSTRAINT fk_workers_queue_id"               \
    " FOREIGN KEY (queue_id) REFERENCES pgqrs_queues (id));"                                       \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_workers_queue_status"                                    \
    " ON pgqrs_workers (queue_id, status);"                                                        \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_workers_heartbeat ON pgqrs_workers (heartbeat_at)"

#define MESSAGES_DDL                                                                               \
    "CREATE TABLE IF NOT EXISTS pgqrs_messages (id bigserial PRIMARY KEY,"                         \
    " queue_id bigint NOT NULL, payload jsonb NOT NULL, vt timestamptz DEFAULT now(),"             \
    " enqueued_at timestamptz DEFAULT now(), read_ct integer DEFAULT 0,"                           \
    " dequeued_at timestamptz, producer_worker_id bigint, consumer_worker_id bigint,"              \
    " archived_at timestamptz,"                                                                    \
    " CONSTRAINT fk_messages_queue_id FOREIGN KEY (queue_id) REFERENCES pgqrs_queues (id),"        \
    " CONSTRAINT fk_messages_producer_worker_id FOREIGN KEY (producer_worker_id)"                  \
    " REFERENCES pgqrs_workers (id),"                                                              \
    " CONSTRAINT fk_messages_consumer_worker_id FOREIGN KEY (consumer_worker_id)"                  \
    " REFERENCES pgqrs_workers (id));"                                                             \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_messages_hot_path"                                       \
    " ON pgqrs_messages (queue_id, vt, enqueued_at, id) WHERE archived_at IS NULL;"                \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_messages_consumer_worker_id_active"                      \
    " ON pgqrs_messages (consumer_worker_id)"                                                      \
    " WHERE archived_at IS NULL AND consumer_worker_id IS NOT NULL;"                               \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_messages_archived_at"                                    \
    " ON pgqrs_messages (queue_id, archived_at) WHERE archived_at IS NOT NULL;"                    \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_messages_producer_worker_id"                             \
    " ON pgqrs_messages (producer_worker_id)"

#define WORKFLOWS_DDL                                                                              \
    "DO $$ BEGIN IF to_regtype('pgqrs_workflow_status') IS NULL THEN"                              \
    " CREATE TYPE pgqrs_workflow_status AS ENUM ('QUEUED', 'RUNNING', 'SUCCESS', 'ERROR',"         \
    " 'PAUSED', 'CANCELLING', 'CANCELLED'); END IF; END $$;"                                       \
    "CREATE TABLE IF NOT EXISTS pgqrs_workflows (id bigserial PRIMARY KEY,"                        \
    " name varchar(255) NOT NULL UNIQUE, queue_id bigint NOT NULL REFERENCES pgqrs_queues (id),"   \
    " created_at timestamptz NOT NULL DEFAULT now());"                                             \
    "CREATE TABLE IF NOT EXISTS pgqrs_workflow_runs (id bigserial PRIMARY KEY,"                    \
    " workflow_id bigint NOT NULL REFERENCES pgqrs_workflows (id) ON DELETE CASCADE,"              \
    " message_id bigint NOT NULL UNIQUE REFERENCES pgqrs_messages (id),"                           \
    " status pgqrs_workflow_status NOT NULL, input jsonb, output jsonb, error jsonb,"              \
    " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT"      \
    " now(), started_at timestamptz, paused_at timestamptz, completed_at timestamptz,"             \
    " worker_id bigint REFERENCES pgqrs_workers (id));"                                            \
    "CREATE TABLE IF NOT EXISTS pgqrs_workflow_steps (id bigserial PRIMARY KEY,"                   \
    " run_id bigint NOT NULL REFERENCES pgqrs_workflow_runs (id) ON DELETE CASCADE,"               \
    " step_name varchar(255) NOT NULL, status pgqrs_workflow_status NOT NULL, input jsonb,"        \
    " output jsonb, error jsonb, created_at timestamptz NOT NULL DEFAULT now(),"                   \
    " updated_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz,"                      \
    " completed_at timestamptz, retry_count integer NOT NULL DEFAULT 0, retry_at timestamptz,"     \
    " last_retry_at timestamptz, UNIQUE (run_id, step_name));"                                     \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_workflows_name ON pgqrs_workflows (name);"               \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_workflow_runs_message_id"                                \
    " ON pgqrs_workflow_runs (message_id);"                                                        \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_workflow_runs_status ON pgqrs_workflow_runs (status);"   \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_workflow_steps_status ON pgqrs_workflow_steps (status);" \
    "CREATE INDEX IF NOT EXISTS idx_pgqrs_workflow_steps_retry_at"                                 \
    " ON pgqrs_workflow_steps (retry_at) WHERE retry_at IS NOT NULL"

const struct pg_migration pgqrs_pg_migrations[] = {
    {1,
     "create worker status enum",
     {"d2c9fdceef8a50d25d477ad3591c44d22523e3796c5d89f2185cdbbad5b744b5"
      "0f4d33835e8282787566b2e72a92ed30"},
     STATUS_DDL},
    {2,
     "create queue table",
     {"0e249be0fa88e93f2389598a7846b14d2222e920125411f9c5b2a45ee7e4e502"
      "d0f66cec66ebf072519e63b9633c3839"},
     QUEUES_DDL},
    {3,
     "create worker table",
     {"4a8661ec5994583653419ede0358f6ebdd1afc7007badc2df474cb61453a0c06"
      "c95c787770cf74902ae350991cc5eb59"},
     WORKERS_DDL},
    {4,
     "create messages table",
     {"a6fb1fcb94e74fffd5d4a4a8167e6a79c494a169659fa29fb3d5a4ccdef5905b"
      "7387372875471eb7d9b6c23b19687fed"},
     MESSAGES_DDL},
    /* The first is that of pgqrs 0.15.1 to 0.15.3, whose migrator knows no other. */
    {6,
     "create workflow tables",
     {"6df4919f0208ce174be4aef9e8752615426a1346b1f641a4de5389254b68d92d"
      "a14a27c58e61aa81207d7263c61b9723",
      "da7689e4422499597ca8397871fe99892fe7b8b6747ae4a264cdb347afe49f71"
      "f5d6750db4f5b02b000888a1669adaf6"},
     WORKFLOWS_DDL},
};
const size_t pgqrs_pg_migration_count = sizeof pgqrs_pg_migrations / sizeof *pgqrs_pg_migrations;

/* ---- ours ---- */

const char pgqrs_pg_ddl_tables[] =
    "CREATE TABLE IF NOT EXISTS pgqrsd_schema (version integer PRIMARY KEY,"
    " installed_at timestamptz NOT NULL DEFAULT now());"
    "CREATE TABLE IF NOT EXISTS pgqrsd_cancel_requests (message_id bigint PRIMARY KEY,"
    " requested_at timestamptz NOT NULL DEFAULT now());"
    "CREATE TABLE IF NOT EXISTS pgqrsd_schedules (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY"
    " KEY, name text NOT NULL UNIQUE, queue_id bigint NOT NULL REFERENCES pgqrs_queues (id),"
    " cron text NOT NULL, zone text NOT NULL, payload jsonb NOT NULL,"
    " priority integer NOT NULL DEFAULT 0, catch_up text NOT NULL DEFAULT 'skip',"
    " overlap text NOT NULL DEFAULT 'allow', config text,"
    " created_at timestamptz NOT NULL DEFAULT now(), paused_at timestamptz,"
    " next_at timestamptz NOT NULL, planned boolean NOT NULL DEFAULT false,"
    " last_at timestamptz, last_message_id bigint);"
    "CREATE INDEX IF NOT EXISTS pgqrsd_schedules_next ON pgqrsd_schedules (next_at)"
    " WHERE paused_at IS NULL;"
    "CREATE TABLE IF NOT EXISTS pgqrsd_schedule_ticks ("
    "schedule_id bigint NOT NULL REFERENCES pgqrsd_schedules (id) ON DELETE CASCADE,"
    " tick_at timestamptz NOT NULL, message_id bigint, PRIMARY KEY (schedule_id, tick_at));"
    "CREATE TABLE IF NOT EXISTS pgqrsd_workflow_events (message_id bigint NOT NULL, name text NOT"
    " NULL, payload jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),"
    " PRIMARY KEY (message_id, name));"
    "CREATE TABLE IF NOT EXISTS pgqrsd_workflow_state (message_id bigint NOT NULL, key text NOT"
    " NULL, value jsonb NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(),"
    " PRIMARY KEY (message_id, key))";

const char pgqrs_pg_ddl_labels[] =
    "ALTER TYPE pgqrs_workflow_status ADD VALUE IF NOT EXISTS 'CANCELLING';"
    "ALTER TYPE pgqrs_workflow_status ADD VALUE IF NOT EXISTS 'CANCELLED'";

/* Without a rewrite of the table: the defaults are constants. */
const char pgqrs_pg_ddl_columns[] =
    "ALTER TABLE pgqrs_messages ADD COLUMN IF NOT EXISTS pgqrsd_priority integer NOT NULL"
    " DEFAULT 0, ADD COLUMN IF NOT EXISTS pgqrsd_due_at timestamptz,"
    " ADD COLUMN IF NOT EXISTS pgqrsd_crash_ct integer NOT NULL DEFAULT 0,"
    " ADD COLUMN IF NOT EXISTS pgqrsd_outcome text, ADD COLUMN IF NOT EXISTS pgqrsd_result json,"
    " ADD COLUMN IF NOT EXISTS pgqrsd_error text,"
    " ADD COLUMN IF NOT EXISTS pgqrsd_unique_key text,"
    " ADD COLUMN IF NOT EXISTS pgqrsd_flow boolean NOT NULL DEFAULT false,"
    " ADD COLUMN IF NOT EXISTS pgqrsd_parent_id bigint;"
    "ALTER TABLE pgqrs_queues ADD COLUMN IF NOT EXISTS pgqrsd_paused_at timestamptz;"
    "ALTER TABLE pgqrs_workers ADD COLUMN IF NOT EXISTS pgqrsd_instance text,"
    " ADD COLUMN IF NOT EXISTS pgqrsd_generation bigint,"
    " ADD COLUMN IF NOT EXISTS pgqrsd_pid bigint;"
    "ALTER TABLE pgqrs_workflow_runs ADD COLUMN IF NOT EXISTS pgqrsd_event text;"
    "ALTER TABLE pgqrs_workflow_steps ADD COLUMN IF NOT EXISTS pgqrsd_kind text NOT NULL"
    " DEFAULT 'step'";

const struct pg_index pgqrs_pg_indexes[] = {
    {"pgqrsd_messages_lease", "", "pgqrs_messages",
     "(queue_id, pgqrsd_priority DESC, vt, id)"
     " WHERE archived_at IS NULL AND consumer_worker_id IS NULL"},
    {"pgqrsd_messages_failed", "", "pgqrs_messages",
     "(queue_id, id) WHERE pgqrsd_outcome = 'failed'"},
    {"pgqrsd_messages_unique", "UNIQUE ", "pgqrs_messages",
     "(queue_id, pgqrsd_unique_key)"
     " WHERE archived_at IS NULL AND pgqrsd_unique_key IS NOT NULL"},
    {"pgqrsd_messages_parent", "", "pgqrs_messages",
     "(pgqrsd_parent_id, id) WHERE pgqrsd_parent_id IS NOT NULL"},
};
const size_t pgqrs_pg_index_count = sizeof pgqrs_pg_indexes / sizeof *pgqrs_pg_indexes;

/* Vacuum follows what changes, not how big the table is. */
const char pgqrs_pg_ddl_settings[] =
    "ALTER TABLE pgqrs_messages SET (autovacuum_vacuum_scale_factor = 0,"
    " autovacuum_vacuum_threshold = 50000, autovacuum_vacuum_cost_delay = 0,"
    " autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0,"
    " autovacuum_analyze_threshold = 200000, fillfactor = 70)";

/* What tells a message that has no run, events or state of ours from one that has is in the row: of
 * plain jobs nothing is asked. */
const struct pg_trigger pgqrs_pg_triggers[] = {
    {"pgqrsd_wake", "AFTER INSERT ON pgqrs_messages FOR EACH STATEMENT"},
    {"pgqrsd_message_archived",
     "AFTER UPDATE OF archived_at ON pgqrs_messages FOR EACH ROW WHEN (NEW.pgqrsd_flow"
     " AND NEW.archived_at IS NOT NULL AND OLD.archived_at IS NULL)"},
    {"pgqrsd_message_deleted",
     "AFTER DELETE ON pgqrs_messages FOR EACH ROW WHEN (OLD.pgqrsd_flow)"},
    {"pgqrsd_run_cancelling",
     "AFTER UPDATE OF status ON pgqrs_workflow_runs FOR EACH ROW WHEN (NEW.status::text ="
     " 'CANCELLING' AND OLD.status::text <> 'CANCELLING')"},
};
const size_t pgqrs_pg_trigger_count = sizeof pgqrs_pg_triggers / sizeof *pgqrs_pg_triggers;

/*
 * pgqrsd_now has no settings of its own, so that it is inlined. The others find the tables whatever
 * the caller's search_path is.
 *
 * pgqrsd_wake: who sleeps holds the lock alone. Who gets a share of it keeps it until the commit,
 * so that nobody falls asleep before the rows can be seen; who does not get it, notifies.
 */
const char pgqrs_pg_ddl_functions[] =
    "CREATE OR REPLACE FUNCTION pgqrsd_now() RETURNS timestamptz LANGUAGE sql STABLE"
    " AS 'SELECT pg_catalog.now()';"

    "CREATE OR REPLACE FUNCTION pgqrsd_wake() RETURNS trigger LANGUAGE plpgsql AS $$\n"
    "BEGIN\n"
    "  IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(" PG_GATE_CLASS ", TG_RELID::int4) THEN\n"
    "    PERFORM pg_catalog.pg_notify('" PG_CHANNEL "' || TG_RELID::text, '');\n"
    "  END IF;\n"
    "  RETURN NULL;\n"
    "END $$;"

    "CREATE OR REPLACE FUNCTION pgqrs_enqueue(queue text, payload jsonb,"
    " delay interval DEFAULT '0', priority integer DEFAULT 0, unique_key text DEFAULT NULL,"
    " at timestamptz DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT"
    " AS $$\n"
    "DECLARE\n"
    "  qid bigint;\n"
    "  mid bigint;\n"
    "  moment timestamptz := pgqrsd_now();\n"
    "  due timestamptz := coalesce($6, moment + $3);\n"
    "BEGIN\n"
    "  SELECT q.id INTO qid FROM pgqrs_queues q WHERE q.queue_name = $1;\n"
    "  IF qid IS NULL THEN\n"
    "    RAISE EXCEPTION 'queue \"%\" does not exist', $1 USING ERRCODE = 'no_data_found';\n"
    "  END IF;\n"
    "  IF $2 IS NULL OR $4 IS NULL OR due IS NULL THEN\n"
    "    RAISE EXCEPTION 'payload, priority and delay must not be null'"
    " USING ERRCODE = 'null_value_not_allowed';\n"
    "  END IF;\n"
    "  IF $3 < '0' OR ($6 IS NOT NULL AND $3 > '0') THEN\n"
    "    RAISE EXCEPTION 'expected a delay of 0 or more, or a time'"
    " USING ERRCODE = 'invalid_parameter_value';\n"
    "  END IF;\n"
    "  IF octet_length($5) NOT BETWEEN 1 AND 255 THEN\n"
    "    RAISE EXCEPTION 'found a unique key of % bytes, expected 1 to 255', octet_length($5)"
    " USING ERRCODE = 'invalid_parameter_value';\n"
    "  END IF;\n"
    "  FOR try IN 1 .. 10 LOOP\n"
    "    INSERT INTO pgqrs_messages AS m (queue_id, payload, vt, enqueued_at, read_ct,"
    " pgqrsd_priority, pgqrsd_unique_key) VALUES (qid, $2, due, moment, 0, $4, $5)"
    " ON CONFLICT (queue_id, pgqrsd_unique_key) WHERE archived_at IS NULL"
    " AND pgqrsd_unique_key IS NOT NULL DO NOTHING RETURNING m.id INTO mid;\n"
    "    IF mid IS NULL THEN\n"
    "      SELECT m.id INTO mid FROM pgqrs_messages m WHERE m.queue_id = qid"
    " AND m.pgqrsd_unique_key = $5 AND m.archived_at IS NULL;\n"
    "    END IF;\n"
    "    IF mid IS NOT NULL THEN\n"
    "      RETURN mid;\n"
    "    END IF;\n"
    "  END LOOP;\n"
    "  RAISE EXCEPTION 'the message with this unique key comes and goes'"
    " USING ERRCODE = 'serialization_failure';\n"
    "END $$;"

    "CREATE OR REPLACE FUNCTION pgqrs_enqueue_batch(queue text, payloads jsonb[],"
    " delay interval DEFAULT '0', priority integer DEFAULT 0) RETURNS SETOF bigint"
    " LANGUAGE plpgsql SET search_path FROM CURRENT AS $$\n"
    "DECLARE\n"
    "  qid bigint;\n"
    "  moment timestamptz := pgqrsd_now();\n"
    "BEGIN\n"
    "  SELECT q.id INTO qid FROM pgqrs_queues q WHERE q.queue_name = $1;\n"
    "  IF qid IS NULL THEN\n"
    "    RAISE EXCEPTION 'queue \"%\" does not exist', $1 USING ERRCODE = 'no_data_found';\n"
    "  END IF;\n"
    "  IF $3 < '0' THEN\n"
    "    RAISE EXCEPTION 'expected a delay of 0 or more'"
    " USING ERRCODE = 'invalid_parameter_value';\n"
    "  END IF;\n"
    "  RETURN QUERY INSERT INTO pgqrs_messages AS m (queue_id, payload, vt, enqueued_at, read_ct,"
    " pgqrsd_priority) SELECT qid, p.item, moment + $3, moment, 0, $4"
    " FROM unnest($2) WITH ORDINALITY AS p (item, nth) ORDER BY p.nth RETURNING m.id;\n"
    "END $$;"

    "CREATE OR REPLACE FUNCTION pgqrs_cancel(id bigint) RETURNS boolean"
    " LANGUAGE plpgsql SET search_path FROM CURRENT AS $$\n"
    "BEGIN\n"
    "  UPDATE pgqrs_messages m SET archived_at = pgqrsd_now(), pgqrsd_outcome = 'cancelled',"
    " pgqrsd_result = NULL WHERE m.id = $1 AND coalesce(m.archived_at, 'infinity') = 'infinity'"
    " AND coalesce(m.consumer_worker_id, 0) = 0;\n"
    "  RETURN FOUND;\n"
    "END $$;"

    /* The settings are those of our connections: what asks for an order names the index. */
    "CREATE OR REPLACE FUNCTION pgqrs_backlog(queue text) RETURNS bigint"
    " LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_seqscan TO off"
    " SET enable_bitmapscan TO off SET enable_sort TO off SET jit TO off AS $$\n"
    "DECLARE\n"
    "  qid bigint;\n"
    "  paused boolean;\n"
    "  waiting bigint := 0;\n"
    "  running bigint;\n"
    "BEGIN\n"
    "  SELECT q.id, q.pgqrsd_paused_at IS NOT NULL INTO qid, paused FROM pgqrs_queues q"
    " WHERE q.queue_name = $1;\n"
    "  IF qid IS NULL THEN\n"
    "    RAISE EXCEPTION 'queue \"%\" does not exist', $1 USING ERRCODE = 'no_data_found';\n"
    "  END IF;\n"
    "  IF NOT paused THEN\n"
    "    SELECT count(*) INTO waiting FROM (SELECT 1 FROM pgqrs_messages m WHERE m.queue_id = qid"
    " AND " PG_PENDING " AND m.vt <= pgqrsd_now() ORDER BY m.vt, m.enqueued_at, m.id"
    " LIMIT 100000) due;\n"
    "  END IF;\n"
    "  SELECT count(*) INTO running FROM (SELECT 1 FROM pgqrs_messages m WHERE m.queue_id = qid"
    " AND " PG_LEASED " ORDER BY m.consumer_worker_id LIMIT 100000) leased;\n"
    "  RETURN waiting + running;\n"
    "END $$";
