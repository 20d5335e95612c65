/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_POSTGRES_FLOW_H
#define PGQRS_STORE_POSTGRES_FLOW_H

/*
 * What the files about durable workflows share. Whoever changes a run, its steps, its events or the
 * message's time because of them has locked the row of the message, FOR NO KEY UPDATE, before the
 * statement that does so, and several in the order of their ids; then nobody needs to lock the run.
 * (pgqrs' own clients lock nothing: what they do to a run is judged by its status.)
 */

#include "store/postgres/pg_priv.h"
#include "store/postgres/pg_text.h"

extern const struct pgqrs_workflow_ops pgqrs_pg_workflow_ops;

/* ---- pg_run.c ---- */

/* Of a step, for pgqrs_pg_read_step. */
#define PG_STEP_COLUMNS                                                                            \
    "s.step_name, s.pgqrsd_kind, s.status::text, s.output, s.error, s.retry_count, s.started_at,"  \
    " s.completed_at, s.retry_at"
/* On failure the step still needs its fini. */
int pgqrs_pg_read_step(const PGresult *rows, int row, int column, struct pgqrs_step *step,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Three columns: name, value, time. */
int pgqrs_pg_read_pair(const PGresult *rows, int row, int column, struct pgqrs_pair *pair,
                       struct pgqrs_error *err) PGQRS_MUST_CHECK;

int pgqrs_pg_run_get(struct pgqrs_store *store, int64_t message_id, struct pgqrs_run_list *one_out,
                     struct pgqrs_error *err);
int pgqrs_pg_run_list(struct pgqrs_store *store, const struct pgqrs_run_filter *filter,
                      struct pgqrs_run_list *list_out, struct pgqrs_error *err);
int pgqrs_pg_run_steps(struct pgqrs_store *store, int64_t message_id,
                       struct pgqrs_step_list *list_out, struct pgqrs_error *err);
int pgqrs_pg_run_state(struct pgqrs_store *store, int64_t message_id,
                       struct pgqrs_pair_list *list_out, struct pgqrs_error *err);
int pgqrs_pg_run_events(struct pgqrs_store *store, int64_t message_id,
                        struct pgqrs_pair_list *list_out, struct pgqrs_error *err);

/* ---- pg_run_act.c ---- */

int pgqrs_pg_run_cancel(struct pgqrs_store *store, int64_t message_id,
                        enum pgqrs_run_status *status_out, struct pgqrs_error *err);
int pgqrs_pg_run_resume(struct pgqrs_store *store, int64_t message_id, bool *woken_out,
                        struct pgqrs_error *err);
int pgqrs_pg_run_fork(struct pgqrs_store *store, int64_t message_id, const char *from_step,
                      struct pgqrs_bytes input, int64_t *message_id_out, struct pgqrs_error *err);
int pgqrs_pg_event_send(struct pgqrs_store *store, int64_t message_id, const char *name,
                        struct pgqrs_bytes payload, bool *first_out, struct pgqrs_error *err);

/* ---- pg_run_open.c ---- */

int pgqrs_pg_run_open(struct pgqrs_store *store, int64_t workflow_id, struct pgqrs_run_open *opens,
                      size_t count, int64_t *now_us_out, struct pgqrs_error *err);

/* ---- pg_flow_set.c: items in one pipeline ---- */

enum pg_flow_at { /* the statements, in their order */
                  PG_FLOW_LOCK = 0,
                  PG_FLOW_STEPS,
                  PG_FLOW_STATE,
                  PG_FLOW_MARK,
                  PG_FLOW_END,
                  PG_FLOW_PAUSE,
                  PG_FLOW_SUSPEND,
                  PG_FLOW_LOOK,
                  PG_FLOW_AT_COUNT
};

struct pg_flow_set {
    struct pgqrs_flow **items; /* by message, none twice, up to PG_ROWS_MAX */
    size_t count;
    struct pg_batch batch;
    int at[PG_FLOW_AT_COUNT]; /* places in the batch; -1: nobody needs it */
};

/* By message. */
void pgqrs_pg_flow_sort(struct pgqrs_flow **items, size_t count);
/* Adds all that the items need; CONTINUE must be SUCCESS by now, and statements and follow-ups are
 * the caller's. only_look: the first and the last statement alone. */
void pgqrs_pg_flow_add(struct pg_flow_set *set, bool only_look);
/* Runs it, in the caller's transaction if there is one, and writes what came of the items. */
int pgqrs_pg_flow_run(struct pg_store *s, struct pg_flow_set *set,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* What an item finds, from a set that only looked. */
bool pgqrs_pg_flow_holds(const struct pg_flow_set *set, const struct pgqrs_flow *item,
                         enum pgqrs_run_status *status_out);
/* Of STEP items that were stored before: gives the output. */
int pgqrs_pg_flow_stored(struct pg_store *s, struct pgqrs_flow **items, size_t count,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- pg_flow_one.c: an item by itself, with whatever it brings, in a transaction of its own ----
 */

int pgqrs_pg_flow_one(struct pg_store *s, struct pgqrs_flow *item,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- pg_guest.c: statements of handlers ---- */

/* Whether it may be carried out; else says why not. */
bool pgqrs_pg_guest_may(const char *sql, char *why, size_t size);
/* In the caller's transaction. 0: done; 1: refused, why says it, and the transaction has failed or
 * must be rolled back; -1. */
int pgqrs_pg_guest(struct pg_store *s, const struct pgqrs_step_sql *sql, char *why, size_t size,
                   struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- pg_flow.c ---- */

int pgqrs_pg_flow(struct pgqrs_store *store, struct pgqrs_flow *items, size_t count,
                  struct pgqrs_error *err);

#endif
