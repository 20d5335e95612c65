/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pgqrs_world.h"

static const char tables[] =
    "CREATE TYPE worker_status AS ENUM ('ready', 'polling', 'suspended', 'interrupted',"
    " 'stopped');"
    "CREATE TABLE pgqrs_queues (id bigserial PRIMARY KEY, queue_name varchar UNIQUE NOT NULL,"
    " created_at timestamptz DEFAULT now() NOT NULL);"
    "CREATE TABLE pgqrs_workers (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,"
    " name text NOT NULL, queue_id bigint, started_at timestamptz DEFAULT now(),"
    " heartbeat_at timestamptz DEFAULT now(), shutdown_at timestamptz,"
    " status worker_status NOT NULL DEFAULT 'ready', UNIQUE (name));"
    "ALTER TABLE pgqrs_workers ADD CONSTRAINT fk_workers_queue_id FOREIGN KEY (queue_id)"
    " REFERENCES pgqrs_queues(id);"
    "CREATE INDEX idx_pgqrs_workers_queue_status ON pgqrs_workers (queue_id, status);"
    "CREATE INDEX idx_pgqrs_workers_heartbeat ON pgqrs_workers (heartbeat_at);"
    "CREATE TABLE pgqrs_messages (id bigserial PRIMARY KEY, queue_id bigint NOT NULL,"
    " payload jsonb NOT NULL, vt timestamptz DEFAULT now(), enqueued_at timestamptz DEFAULT now(),"
    " read_ct int DEFAULT 0, dequeued_at timestamptz, producer_worker_id bigint,"
    " consumer_worker_id bigint, archived_at timestamptz);"
    "ALTER TABLE pgqrs_messages ADD CONSTRAINT fk_messages_queue_id FOREIGN KEY (queue_id)"
    " REFERENCES pgqrs_queues(id), ADD CONSTRAINT fk_messages_producer_worker_id"
    " FOREIGN KEY (producer_worker_id) REFERENCES pgqrs_workers(id),"
    " ADD CONSTRAINT fk_messages_consumer_worker_id FOREIGN KEY (consumer_worker_id)"
    " REFERENCES pgqrs_workers(id);"
    "CREATE INDEX idx_pgqrs_messages_hot_path ON pgqrs_messages (queue_id, vt, enqueued_at, id)"
    " WHERE archived_at IS NULL;"
    "CREATE INDEX idx_pgqrs_messages_consumer_worker_id_active ON pgqrs_messages"
    " (consumer_worker_id) WHERE archived_at IS NULL AND consumer_worker_id IS NOT NULL;"
    "CREATE INDEX idx_pgqrs_messages_archived_at ON pgqrs_messages (queue_id, archived_at)"
    " WHERE archived_at IS NOT NULL;"
    "CREATE INDEX idx_pgqrs_messages_producer_worker_id ON pgqrs_messages (producer_worker_id);"
    "CREATE TYPE pgqrs_workflow_status AS ENUM ('QUEUED', 'RUNNING', 'SUCCESS', 'ERROR',"
    " 'PAUSED');"
    "CREATE TABLE pgqrs_workflows (id bigserial PRIMARY KEY, name varchar(255) NOT NULL UNIQUE,"
    " queue_id bigint NOT NULL REFERENCES pgqrs_queues(id),"
    " created_at timestamptz NOT NULL DEFAULT now());"
    "CREATE INDEX idx_pgqrs_workflows_name ON pgqrs_workflows (name);"
    "CREATE TABLE pgqrs_workflow_runs (id bigserial PRIMARY KEY, workflow_id bigint NOT NULL"
    " REFERENCES pgqrs_workflows(id) ON DELETE CASCADE, message_id bigint NOT NULL UNIQUE"
    " REFERENCES pgqrs_messages(id), status pgqrs_workflow_status NOT NULL, input jsonb,"
    " output jsonb, error jsonb, created_at timestamptz NOT NULL DEFAULT now(),"
    " updated_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz,"
    " paused_at timestamptz, completed_at timestamptz,"
    " worker_id bigint REFERENCES pgqrs_workers(id));"
    "CREATE INDEX idx_pgqrs_workflow_runs_message_id ON pgqrs_workflow_runs (message_id);"
    "CREATE INDEX idx_pgqrs_workflow_runs_status ON pgqrs_workflow_runs (status);"
    "CREATE TABLE pgqrs_workflow_steps (id bigserial PRIMARY KEY, run_id bigint NOT NULL"
    " REFERENCES pgqrs_workflow_runs(id) ON DELETE CASCADE, step_name varchar(255) NOT NULL,"
    " status pgqrs_workflow_status NOT NULL, input jsonb, output jsonb, error jsonb,"
    " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT"
    " now(), started_at timestamptz, completed_at timestamptz, retry_count int NOT NULL DEFAULT"
    " 0, retry_at timestamptz, last_retry_at timestamptz, UNIQUE (run_id, step_name));"
    "CREATE INDEX idx_pgqrs_workflow_steps_status ON pgqrs_workflow_steps (status);"
    "CREATE INDEX idx_pgqrs_workflow_steps_retry_at ON pgqrs_workflow_steps (retry_at)"
    " WHERE retry_at IS NOT NULL;"
    "COMMENT ON TABLE pgqrs_workflows IS 'workflows';"
    "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL,"
    " installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL,"
    " checksum bytea NOT NULL, execution_time bigint NOT NULL)";

static const struct {
    int version;
    const char *description, *checksum;
} ledger[] = {
    {1, "create worker status enum",
     "d2c9fdceef8a50d25d477ad3591c44d22523e3796c5d89f2185cdbbad5b744b5"
     "0f4d33835e8282787566b2e72a92ed30"},
    {2, "create queue table",
     "0e249be0fa88e93f2389598a7846b14d2222e920125411f9c5b2a45ee7e4e502"
     "d0f66cec66ebf072519e63b9633c3839"},
    {3, "create worker table",
     "4a8661ec5994583653419ede0358f6ebdd1afc7007badc2df474cb61453a0c06"
     "c95c787770cf74902ae350991cc5eb59"},
    {4, "create messages table",
     "a6fb1fcb94e74fffd5d4a4a8167e6a79c494a169659fa29fb3d5a4ccdef5905b"
     "7387372875471eb7d9b6c23b19687fed"},
    {6, "create workflow tables",
     "6df4919f0208ce174be4aef9e8752615426a1346b1f641a4de5389254b68d92d"
     "a14a27c58e61aa81207d7263c61b9723"},
};

void pgqrs_world_create(struct pg_rig *rig, bool head)
{
    pg_rig_sql(rig, "%s", tables);
    for (size_t i = 0; i < sizeof ledger / sizeof *ledger; i++) {
        pg_rig_sql(rig,
                   "INSERT INTO _sqlx_migrations VALUES (%d, '%s', now(), true,"
                   " decode('%s', 'hex'), 1000000)",
                   ledger[i].version, ledger[i].description, ledger[i].checksum);
    }
    if (head) {
        pg_rig_sql(rig, "ALTER TYPE pgqrs_workflow_status ADD VALUE 'CANCELLING'");
        pg_rig_sql(rig, "ALTER TYPE pgqrs_workflow_status ADD VALUE 'CANCELLED'");
        pg_rig_sql(rig, "UPDATE _sqlx_migrations SET checksum = decode('da7689e4422499597ca8397871"
                        "fe99892fe7b8b6747ae4a264cdb347afe49f71f5d6750db4f5b02b000888a1669adaf6',"
                        " 'hex') WHERE version = 6");
    }
}

void pgqrs_world_fill(struct pg_rig *rig)
{
    pg_rig_sql(rig, "INSERT INTO pgqrs_queues (queue_name) VALUES ('mail');"
                    "INSERT INTO pgqrs_workers (name, queue_id, status)"
                    " SELECT n, id, 'polling' FROM pgqrs_queues, unnest('{alice,bob}'::text[]) n;"
                    "INSERT INTO pgqrs_messages (queue_id, payload, producer_worker_id)"
                    " SELECT q.id, jsonb_build_object('n', n), w.id FROM pgqrs_queues q,"
                    " pgqrs_workers w, generate_series(1, 4) n WHERE w.name = 'alice';"
                    "UPDATE pgqrs_messages SET consumer_worker_id = w.id, read_ct = 1,"
                    " dequeued_at = now(), vt = now() + interval '60 s' FROM pgqrs_workers w"
                    " WHERE w.name = 'bob' AND payload->>'n' IN ('2', '3');"
                    "UPDATE pgqrs_messages SET archived_at = now() WHERE payload->>'n' = '3';"
                    "INSERT INTO pgqrs_workflows (name, queue_id) SELECT 'flow', id"
                    " FROM pgqrs_queues;"
                    "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
                    " SELECT w.id, m.id, 'RUNNING' FROM pgqrs_workflows w, pgqrs_messages m"
                    " WHERE m.payload->>'n' = '4';"
                    "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status)"
                    " SELECT id, 'one', 'SUCCESS' FROM pgqrs_workflow_runs");
}
