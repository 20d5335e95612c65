/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_borrow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "store/postgres/pg_flow.h"
#include "store/postgres/pg_wake.h"

#define CALL_MS 30000

static void close_store(struct pgqrs_store *store)
{
    struct pg_store *s = pg_of(store);
    pgqrs_pg_wake_close(s);
    pgqrs_pg_drop(s);
    pgqrs_pg_dsn_fini(&s->dsn);
    free(s->schema);
    free(s->search_path);
    free(s->site);
    free(s);
}

static const struct pgqrs_store_ops postgres_ops = {
    .name = "postgres",
    .schedule = &pgqrs_pg_schedule_ops,
    .workflow = &pgqrs_pg_workflow_ops,
    .close = close_store,
    .claim = pgqrs_pg_claim,
    .install = pgqrs_pg_install,
    .verify = pgqrs_pg_verify,
    .fits = pgqrs_pg_fits,
    .queue_create = pgqrs_pg_queue_create,
    .queue_find = pgqrs_pg_queue_find,
    .queue_list = pgqrs_pg_queue_list,
    .queue_pause = pgqrs_pg_queue_pause,
    .queue_delete = pgqrs_pg_queue_delete,
    .queue_purge = pgqrs_pg_queue_purge,
    .queue_metrics = pgqrs_pg_queue_metrics,
    .enqueue = pgqrs_pg_enqueue,
    .message_get = pgqrs_pg_message_get,
    .message_list = pgqrs_pg_message_list,
    .message_act = pgqrs_pg_message_act,
    .prune = pgqrs_pg_prune,
    .bury = pgqrs_pg_bury,
    .reap = pgqrs_pg_reap,
    .worker_register = pgqrs_pg_worker_register,
    .worker_beat = pgqrs_pg_worker_beat,
    .worker_orders = pgqrs_pg_worker_orders,
    .worker_end = pgqrs_pg_worker_end,
    .worker_reconcile = pgqrs_pg_worker_reconcile,
    .worker_list = pgqrs_pg_worker_list,
    .worker_move = pgqrs_pg_worker_move,
    .worker_delete = pgqrs_pg_worker_delete,
    .worker_purge = pgqrs_pg_worker_purge,
    .worker_stats = pgqrs_pg_worker_stats,
    .info = pgqrs_pg_info,
    .exchange = pgqrs_pg_exchange,
    .renew = pgqrs_pg_renew,
    .message_claim = pgqrs_pg_message_claim,
    .wake_fd = pgqrs_pg_wake_fd,
    .woken = pgqrs_pg_woken,
    .doze = pgqrs_pg_doze,
    .rouse = pgqrs_pg_rouse,
};

/* A schema's name needs no escape within the quotes: it was checked. */
static int set_schema(struct pg_store *s, const char *schema, struct pgqrs_error *err)
{
    if (pgqrs_pg_check_schema(schema, err) < 0) {
        return -1;
    }
    s->schema = strdup(schema);
    if (s->schema == NULL || asprintf(&s->search_path, "\"%s\"", schema) < 0) {
        s->search_path = NULL;
        return pgqrs_error_memory(err);
    }
    return 0;
}

/* Through a pooler nothing is ever heard. */
static int listen_if_asked(struct pg_store *s, const char *dsn,
                           const struct pgqrs_store_options *options, struct pgqrs_error *err)
{
    if (!options->wake) {
        return 0;
    }
    if (s->pooled && options->wake_dsn == NULL) {
        pgqrs_log_warn("store: a pooler is between this broker and PostgreSQL, nothing can be "
                       "heard through it; polling");
        return 0;
    }
    return pgqrs_pg_wake_open(s, options->wake_dsn == NULL ? dsn : options->wake_dsn, err);
}

int pgqrs_store_postgres_open(const char *dsn, const struct pgqrs_store_options *options,
                              struct pgqrs_store **store_out, struct pgqrs_error *err)
{
    struct pg_store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return pgqrs_error_memory(err);
    }
    s->base.ops = &postgres_ops;
    s->call_ms = options->call_ms > 0 ? options->call_ms : CALL_MS;
    s->deadline_ms = pgqrs_mono_ms() + s->call_ms;
    if (set_schema(s, options->schema == NULL ? "public" : options->schema, err) < 0 ||
        pgqrs_pg_dsn_parse(&s->dsn, dsn, err) < 0 || pgqrs_pg_ready(s, err) < 0 ||
        listen_if_asked(s, dsn, options, err) < 0) {
        close_store(&s->base);
        return -1;
    }
    *store_out = &s->base;
    return 0;
}

int pgqrs_store_borrow_postgres(struct pg_conn *conn, const char *schema,
                                struct pgqrs_store **store_out, struct pgqrs_error *err)
{
    struct pg_store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return pgqrs_error_memory(err);
    }
    s->base.ops = &postgres_ops;
    s->conn = conn;
    s->borrowed = true;
    if (schema != NULL && set_schema(s, schema, err) < 0) {
        close_store(&s->base);
        return -1;
    }
    *store_out = &s->base;
    return 0;
}
