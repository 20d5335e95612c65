/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_SQLITE_FLOW_H
#define PGQRS_STORE_SQLITE_FLOW_H

/* What the files of the SQLite backend that keep workflows share. */

#include "store/sqlite/sqlite_priv.h"

/* ---- sqlite_flow_sql.c ---- */

const char *pgqrs_sqlite_flow_sql(enum sqlite_stmt_id id);

/* ---- sqlite_workflow.c: definitions, and what is read ---- */

int pgqrs_sqlite_workflow_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                                 bool *existed_out, struct pgqrs_error *err);
int pgqrs_sqlite_workflow_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                               struct pgqrs_workflow_list *list_out, struct pgqrs_error *err);
int pgqrs_sqlite_workflow_find(struct pgqrs_store *store, const char *name,
                               struct pgqrs_workflow_list *one_out, struct pgqrs_error *err);
int pgqrs_sqlite_run_get(struct pgqrs_store *store, int64_t message_id,
                         struct pgqrs_run_list *one_out, struct pgqrs_error *err);
int pgqrs_sqlite_run_list(struct pgqrs_store *store, const struct pgqrs_run_filter *filter,
                          struct pgqrs_run_list *list_out, struct pgqrs_error *err);
int pgqrs_sqlite_run_steps(struct pgqrs_store *store, int64_t message_id,
                           struct pgqrs_step_list *list_out, struct pgqrs_error *err);
int pgqrs_sqlite_run_state(struct pgqrs_store *store, int64_t message_id,
                           struct pgqrs_pair_list *list_out, struct pgqrs_error *err);
int pgqrs_sqlite_run_events(struct pgqrs_store *store, int64_t message_id,
                            struct pgqrs_pair_list *list_out, struct pgqrs_error *err);

/* The same, into lists that the caller frees on failure too. */
int pgqrs_sqlite_read_steps(struct sqlite_store *s, int64_t message_id,
                            struct pgqrs_step_list *list, struct pgqrs_error *err);
int pgqrs_sqlite_read_pairs(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t message_id,
                            struct pgqrs_pair_list *list, struct pgqrs_error *err);

/* ---- sqlite_run.c: what people and other runs do to a run ---- */

int pgqrs_sqlite_run_cancel(struct pgqrs_store *store, int64_t message_id,
                            enum pgqrs_run_status *status_out, struct pgqrs_error *err);
int pgqrs_sqlite_run_resume(struct pgqrs_store *store, int64_t message_id, bool *woken_out,
                            struct pgqrs_error *err);
int pgqrs_sqlite_run_fork(struct pgqrs_store *store, int64_t message_id, const char *from_step,
                          struct pgqrs_bytes input, int64_t *message_id_out,
                          struct pgqrs_error *err);
int pgqrs_sqlite_event_send(struct pgqrs_store *store, int64_t message_id, const char *name,
                            struct pgqrs_bytes payload, bool *first_out, struct pgqrs_error *err);

/* Runs a statement about a message (?1) and a time (?2); returns how many rows it changed. */
int64_t pgqrs_sqlite_run_at(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t message_id,
                            const char *time, struct pgqrs_error *err);
/* A message like the old one, due now, with another payload (empty: the same), for a run of ours.
 * Returns its id, or -1. */
int64_t pgqrs_sqlite_message_again(struct sqlite_store *s, int64_t message_id,
                                   struct pgqrs_bytes payload, bool keep_parent,
                                   const struct moment *now, struct pgqrs_error *err);
/* 1, 0 it is no JSON value, or -1. */
int pgqrs_sqlite_is_json(struct sqlite_store *s, struct pgqrs_bytes text, struct pgqrs_error *err);

/* ---- sqlite_flow.c ---- */

int pgqrs_sqlite_run_open(struct pgqrs_store *store, int64_t workflow_id,
                          struct pgqrs_run_open *opens, size_t count, int64_t *now_us_out,
                          struct pgqrs_error *err);
int pgqrs_sqlite_flow(struct pgqrs_store *store, struct pgqrs_flow *items, size_t count,
                      struct pgqrs_error *err);

/* ---- sqlite_flow_step.c ---- */

struct flow_item { /* one at work, in the caller's transaction */
    struct sqlite_store *s;
    struct pgqrs_flow *flow;
    const struct moment *now;
    int64_t run_id; /* 0: there is no run */
    enum pgqrs_run_status status;
};
/* Why the handler's part of an item can not be; empty: it can. */
struct flow_trouble {
    char text[512];
};
int pgqrs_sqlite_put_steps(const struct flow_item *i, struct pgqrs_error *err);
/* The whole of a PGQRS_FLOW_STEP whose lease holds. */
int pgqrs_sqlite_flow_step(const struct flow_item *i, struct pgqrs_error *err);
/* The item is refused for what it brings: failed_out and error_out. */
int pgqrs_sqlite_flow_failed(const struct flow_item *i, const struct flow_trouble *trouble,
                             struct pgqrs_error *err);

/* ---- sqlite_guest.c: statements of handlers ---- */

/* Carries out a handler's statement. Writes to trouble why it was refused. -1: the store failed. A
 * statement may have ended the transaction (a conflict clause that rolls back), which trouble tells
 * and sqlite3_get_autocommit shows. */
int pgqrs_sqlite_guest(struct sqlite_store *s, const struct pgqrs_step_sql *sql,
                       struct flow_trouble *trouble, struct pgqrs_error *err);
/* Makes the connection ask what a handler's statement may do. */
void pgqrs_sqlite_guest_attach(struct sqlite_store *s);

#endif
