/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/sqlite/sqlite_flow.h"
#include "store/sqlite/sqlite_schema.h"
#include "store/store_borrow.h"

static void close_store(struct pgqrs_store *store)
{
    struct sqlite_store *s = sqlite_of(store);
    pgqrs_sqlite_wake_fini(&s->wake);
    pgqrs_sqlite_finalize(s);
    if (!s->borrowed) {
        (void)sqlite3_close(s->db); /* can be refused only while a statement is left */
    }
    if (s->claim_fd >= 0) {
        (void)close(s->claim_fd); /* only held for its lock */
    }
    free(s->path);
    free(s->shown);
    free(s);
}

static const struct pgqrs_workflow_ops workflow_ops = {
    .create = pgqrs_sqlite_workflow_create,
    .list = pgqrs_sqlite_workflow_list,
    .find = pgqrs_sqlite_workflow_find,
    .run_get = pgqrs_sqlite_run_get,
    .run_list = pgqrs_sqlite_run_list,
    .run_steps = pgqrs_sqlite_run_steps,
    .run_state = pgqrs_sqlite_run_state,
    .run_events = pgqrs_sqlite_run_events,
    .run_cancel = pgqrs_sqlite_run_cancel,
    .run_resume = pgqrs_sqlite_run_resume,
    .run_fork = pgqrs_sqlite_run_fork,
    .event_send = pgqrs_sqlite_event_send,
    .run_open = pgqrs_sqlite_run_open,
    .flow = pgqrs_sqlite_flow,
};

static const struct pgqrs_store_ops sqlite_ops = {
    .name = "sqlite",
    .schedule = &pgqrs_sqlite_schedule_ops,
    .workflow = &workflow_ops,
    .close = close_store,
    .claim = pgqrs_sqlite_claim,
    .install = pgqrs_sqlite_install,
    .verify = pgqrs_sqlite_verify,
    .fits = pgqrs_sqlite_fits,
    .queue_create = pgqrs_sqlite_queue_create,
    .queue_find = pgqrs_sqlite_queue_find,
    .queue_list = pgqrs_sqlite_queue_list,
    .queue_pause = pgqrs_sqlite_queue_pause,
    .queue_delete = pgqrs_sqlite_queue_delete,
    .queue_purge = pgqrs_sqlite_queue_purge,
    .queue_metrics = pgqrs_sqlite_queue_metrics,
    .enqueue = pgqrs_sqlite_enqueue,
    .message_get = pgqrs_sqlite_message_get,
    .message_list = pgqrs_sqlite_message_list,
    .message_act = pgqrs_sqlite_message_act,
    .prune = pgqrs_sqlite_prune,
    .bury = pgqrs_sqlite_bury,
    .reap = pgqrs_sqlite_reap,
    .worker_register = pgqrs_sqlite_worker_register,
    .worker_beat = pgqrs_sqlite_worker_beat,
    .worker_orders = pgqrs_sqlite_worker_orders,
    .worker_end = pgqrs_sqlite_worker_end,
    .worker_reconcile = pgqrs_sqlite_worker_reconcile,
    .worker_list = pgqrs_sqlite_worker_list,
    .worker_move = pgqrs_sqlite_worker_move,
    .worker_delete = pgqrs_sqlite_worker_delete,
    .worker_purge = pgqrs_sqlite_worker_purge,
    .worker_stats = pgqrs_sqlite_worker_stats,
    .info = pgqrs_sqlite_info,
    .exchange = pgqrs_sqlite_exchange,
    .renew = pgqrs_sqlite_renew,
    .message_claim = pgqrs_sqlite_message_claim,
    .wake_fd = pgqrs_sqlite_wake_fd,
    .woken = pgqrs_sqlite_woken,
    .unwatch = pgqrs_sqlite_unwatch,
};

static struct sqlite_store *new_store(struct pgqrs_error *err)
{
    struct sqlite_store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        (void)pgqrs_error_memory(err);
        return NULL;
    }
    s->base.ops = &sqlite_ops;
    s->claim_fd = -1;
    pgqrs_sqlite_wake_init(&s->wake);
    return s;
}

int pgqrs_store_sqlite_open(const char *dsn, const struct pgqrs_store_options *options,
                            struct pgqrs_store **store_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = new_store(err);
    if (s == NULL) {
        return -1;
    }
    s->busy_ms = options->busy_ms;
    s->synchronous_full = options->synchronous_full;
    bool create = options->create;
    char *path = NULL;
    if (pgqrs_sqlite_parse_dsn(dsn, &path, &create, err) < 0 ||
        pgqrs_sqlite_open_file(s, path, create, err) < 0) {
        free(path);
        close_store(&s->base);
        return -1;
    }
    free(path);
    *store_out = &s->base;
    return 0;
}

int pgqrs_store_borrow_sqlite(struct sqlite3 *db, struct pgqrs_store **store_out,
                              struct pgqrs_error *err)
{
    struct sqlite_store *s = new_store(err);
    if (s == NULL) {
        return -1;
    }
    s->db = db;
    s->borrowed = true;
    const char *name = sqlite3_db_filename(db, "main");
    s->shown = strdup(name == NULL || *name == 0 ? ":memory:" : name);
    if (s->shown == NULL) {
        close_store(&s->base);
        return pgqrs_error_memory(err);
    }
    if (pgqrs_sqlite_check_version(s, true, err) < 0) {
        close_store(&s->base);
        return -1;
    }
    *store_out = &s->base;
    return 0;
}
