/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_flow.h"

#include <stdlib.h>

/* Definitions of workflows, and what is read of their runs. */

#define LOOK_MAX 10000 /* runs that one call of a list looks at */

/* Makes room for one item more, which is zero; null with err filled. */
static void *grow(void *items, size_t count, size_t size, struct pgqrs_error *err)
{
    if ((count & (count - 1)) != 0) { /* there is room up to the next power of two */
        return items;
    }
    void *more = realloc(items, (count == 0 ? 1 : count * 2) * size);
    if (more == NULL) {
        (void)pgqrs_error_memory(err);
    }
    return more;
}

/* ---- definitions ---- */

static int read_workflow(sqlite3_stmt *row, struct pgqrs_workflow_list *list,
                         struct pgqrs_error *err)
{
    struct pgqrs_workflow *items = grow(list->items, list->count, sizeof *items, err);
    if (items == NULL) {
        return -1;
    }
    list->items = items;
    struct pgqrs_workflow *w = &items[list->count++];
    *w = (struct pgqrs_workflow){.id = sqlite3_column_int64(row, 0),
                                 .queue_id = sqlite3_column_int64(row, 1)};
    pgqrs_sqlite_time(row, 3, &w->created_at_us);
    return pgqrs_sqlite_dup(row, 2, &w->name, err);
}

static int read_workflows(struct sqlite_store *s, sqlite3_stmt *stmt,
                          struct pgqrs_workflow_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_workflow_list list = {0};
    int rc;
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        if (read_workflow(stmt, &list, err) < 0) {
            rc = -1;
            (void)sqlite3_reset(stmt); /* the failure is known */
            break;
        }
    }
    if (rc < 0) {
        pgqrs_workflow_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

int pgqrs_sqlite_workflow_list(struct pgqrs_store *store, int64_t after_id, uint32_t limit,
                               struct pgqrs_workflow_list *list_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    sqlite3_stmt *stmt =
        pgqrs_sqlite_check_file(s, err) < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_WORKFLOW_LIST, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, after_id);
    pgqrs_sqlite_bind_int(stmt, 2, limit);
    return read_workflows(s, stmt, list_out, err);
}

static int find(struct sqlite_store *s, const char *name, struct pgqrs_workflow_list *one_out,
                struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_WORKFLOW_FIND, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, name);
    return read_workflows(s, stmt, one_out, err);
}

int pgqrs_sqlite_workflow_find(struct pgqrs_store *store, const char *name,
                               struct pgqrs_workflow_list *one_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_check_file(s, err) < 0 || find(s, name, one_out, err) < 0) {
        return -1;
    }
    return one_out->count > 0
               ? 0
               : pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "workflow \"%s\" does not exist", name);
}

/* The queue of that name, made when there is none. */
static int64_t need_queue(struct sqlite_store *s, const char *name, const struct moment *now,
                          struct pgqrs_error *err)
{
    struct pgqrs_error why;
    int64_t id;
    if (pgqrs_sqlite_queue_find(&s->base, name, &id, &why) == 0) {
        return id;
    }
    if (why.code != PGQRS_ERR_NOT_FOUND) {
        return pgqrs_error_set(err, why.code, "%s", why.text);
    }
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_QUEUE_CREATE, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, name);
    pgqrs_sqlite_bind_text(stmt, 2, now->text);
    return pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : sqlite3_last_insert_rowid(s->db);
}

static int64_t create(struct sqlite_store *s, const char *name, bool *existed_out,
                      struct pgqrs_error *err)
{
    const struct moment now = pgqrs_sqlite_moment(pgqrs_wall_us());
    struct pgqrs_workflow_list one = {0};
    if (find(s, name, &one, err) < 0) {
        return -1;
    }
    *existed_out = one.count > 0;
    int64_t id = one.count > 0 ? one.items[0].id : 0;
    pgqrs_workflow_list_fini(&one);
    if (*existed_out) {
        return id;
    }
    int64_t queue_id = need_queue(s, name, &now, err);
    sqlite3_stmt *stmt = queue_id < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_WORKFLOW_CREATE, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_text(stmt, 1, name);
    pgqrs_sqlite_bind_int(stmt, 2, queue_id);
    pgqrs_sqlite_bind_text(stmt, 3, now.text);
    return pgqrs_sqlite_run(s, stmt, err) < 0 ? -1 : sqlite3_last_insert_rowid(s->db);
}

int pgqrs_sqlite_workflow_create(struct pgqrs_store *store, const char *name, int64_t *id_out,
                                 bool *existed_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    if (pgqrs_sqlite_begin(s, err) < 0) {
        return -1;
    }
    int64_t id = pgqrs_sqlite_end(s, create(s, name, existed_out, err), err);
    if (id < 0) {
        return -1;
    }
    *id_out = id;
    return 0;
}

/* ---- runs ---- */

static int read_run(sqlite3_stmt *row, struct pgqrs_run_list *list, struct pgqrs_error *err)
{
    struct pgqrs_run *items = grow(list->items, list->count, sizeof *items, err);
    if (items == NULL) {
        return -1;
    }
    list->items = items;
    struct pgqrs_run *run = &items[list->count++];
    *run = (struct pgqrs_run){.id = sqlite3_column_int64(row, 0),
                              .message_id = sqlite3_column_int64(row, 1),
                              .workflow_id = sqlite3_column_int64(row, 2),
                              .parent_id = sqlite3_column_int64(row, 3),
                              .worker_id = sqlite3_column_int64(row, 4),
                              .status = pgqrs_run_status_from(pgqrs_sqlite_bytes(row, 5))};
    int64_t *const times[] = {&run->created_at_us, &run->updated_at_us,   &run->started_at_us,
                              &run->paused_at_us,  &run->completed_at_us, &run->due_at_us};
    for (int i = 0; i < 6; i++) {
        pgqrs_sqlite_time(row, 10 + i, times[i]);
    }
    char **const texts[] = {&run->workflow, &run->input, &run->output, &run->error};
    for (int i = 0; i < 4; i++) {
        if (pgqrs_sqlite_dup(row, 6 + i, texts[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Up to limit rows. On failure the list still needs its fini. */
static int read_runs(struct sqlite_store *s, sqlite3_stmt *stmt, size_t limit,
                     struct pgqrs_run_list *list, struct pgqrs_error *err)
{
    int rc = 0;
    while (list->count < limit && (rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        rc = read_run(stmt, list, err);
        if (rc < 0) {
            break;
        }
    }
    (void)sqlite3_reset(stmt); /* the failure is known */
    return rc < 0 ? -1 : 0;
}

/* What is not there: the run, or the message. */
static int no_run(struct sqlite_store *s, int64_t message_id, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_RUN_LOOK, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, message_id);
    int there = pgqrs_sqlite_step(s, stmt, err);
    if (there < 0) {
        return -1;
    }
    (void)sqlite3_reset(stmt); /* the row is enough */
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND,
                           there > 0 ? "message %lld has no workflow run"
                                     : "message %lld does not exist",
                           (long long)message_id);
}

int pgqrs_sqlite_run_get(struct pgqrs_store *store, int64_t message_id,
                         struct pgqrs_run_list *one_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct pgqrs_run_list list = {0};
    sqlite3_stmt *stmt =
        pgqrs_sqlite_check_file(s, err) < 0 ? NULL : pgqrs_sqlite_stmt(s, STMT_RUN_GET, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, message_id);
    if (read_runs(s, stmt, 1, &list, err) < 0) {
        pgqrs_run_list_fini(&list);
        return -1;
    }
    if (list.count == 0) {
        return no_run(s, message_id, err);
    }
    *one_out = list;
    return 0;
}

/* The id below which this call looks at nothing; 0: it sees all. */
static int64_t end_of_page(struct sqlite_store *s, const struct pgqrs_run_filter *filter,
                           const char *status, struct pgqrs_error *err)
{
    if (filter->parent_id != 0) {
        return 0; /* by an index */
    }
    sqlite3_stmt *stmt =
        pgqrs_sqlite_stmt(s, status == NULL ? STMT_RUN_LIST_END : STMT_RUN_LIST_STATUS_END, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, filter->before_id == 0 ? INT64_MAX : filter->before_id);
    pgqrs_sqlite_bind_int(stmt, 2, LOOK_MAX);
    if (status != NULL) {
        pgqrs_sqlite_bind_text(stmt, 3, status);
    }
    int rc = pgqrs_sqlite_step(s, stmt, err);
    int64_t end = rc > 0 ? sqlite3_column_int64(stmt, 0) + 1 : rc;
    (void)sqlite3_reset(stmt); /* the row was read */
    return end;
}

static int list_runs(struct sqlite_store *s, const struct pgqrs_run_filter *filter,
                     struct pgqrs_run_list *list, struct pgqrs_error *err)
{
    const char *status = pgqrs_run_status_name(filter->status);
    int64_t end = end_of_page(s, filter, status, err);
    sqlite3_stmt *stmt = end < 0 ? NULL
                                 : pgqrs_sqlite_stmt(s,
                                                     filter->parent_id != 0 ? STMT_RUN_LIST_PARENT
                                                     : status != NULL       ? STMT_RUN_LIST_STATUS
                                                                            : STMT_RUN_LIST,
                                                     err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, filter->before_id == 0 ? INT64_MAX : filter->before_id);
    pgqrs_sqlite_bind_int(stmt, 2, end);
    pgqrs_sqlite_bind_int(stmt, 3, filter->workflow_id);
    pgqrs_sqlite_bind_text(stmt, 4, status);
    pgqrs_sqlite_bind_int(stmt, 5, filter->parent_id);
    pgqrs_sqlite_bind_int(stmt, 6, (int64_t)filter->limit + 1);
    if (read_runs(s, stmt, (size_t)filter->limit + 1, list, err) < 0) {
        return -1;
    }
    list->next_before_id = end;
    if (list->count > filter->limit) {
        struct pgqrs_run_list last = {.count = 1, .items = malloc(sizeof *last.items)};
        if (last.items == NULL) {
            return pgqrs_error_memory(err);
        }
        last.items[0] = list->items[--list->count];
        pgqrs_run_list_fini(&last);
        list->next_before_id = list->items[list->count - 1].id;
    }
    return 0;
}

int pgqrs_sqlite_run_list(struct pgqrs_store *store, const struct pgqrs_run_filter *filter,
                          struct pgqrs_run_list *list_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    struct pgqrs_run_list list = {0};
    /* One snapshot for the end and the page. */
    int rc = pgqrs_sqlite_begin_read(s, err);
    if (rc == 0) {
        rc = list_runs(s, filter, &list, err);
        pgqrs_sqlite_rollback(s);
    }
    if (rc < 0) {
        pgqrs_run_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}

/* ---- steps, state and events ---- */

static int read_step(sqlite3_stmt *row, struct pgqrs_step_list *list, struct pgqrs_error *err)
{
    struct pgqrs_step *items = grow(list->items, list->count, sizeof *items, err);
    if (items == NULL) {
        return -1;
    }
    list->items = items;
    struct pgqrs_step *step = &items[list->count++];
    *step = (struct pgqrs_step){.kind = pgqrs_step_kind_from(pgqrs_sqlite_bytes(row, 1)),
                                .status = pgqrs_step_status_from(pgqrs_sqlite_bytes(row, 2)),
                                .retry_count = sqlite3_column_int(row, 5)};
    pgqrs_sqlite_time(row, 6, &step->started_at_us);
    pgqrs_sqlite_time(row, 7, &step->completed_at_us);
    pgqrs_sqlite_time(row, 8, &step->retry_at_us);
    if (pgqrs_sqlite_dup(row, 0, &step->name, err) < 0 ||
        pgqrs_sqlite_dup(row, 3, &step->output, err) < 0) {
        return -1;
    }
    return pgqrs_sqlite_dup(row, 4, &step->error, err);
}

int pgqrs_sqlite_read_steps(struct sqlite_store *s, int64_t message_id,
                            struct pgqrs_step_list *list, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_RUN_STEPS, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, message_id);
    int rc;
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        if (read_step(stmt, list, err) < 0) {
            (void)sqlite3_reset(stmt); /* the failure is known */
            return -1;
        }
    }
    return rc;
}

static int read_pair(sqlite3_stmt *row, struct pgqrs_pair_list *list, struct pgqrs_error *err)
{
    struct pgqrs_pair *items = grow(list->items, list->count, sizeof *items, err);
    if (items == NULL) {
        return -1;
    }
    list->items = items;
    struct pgqrs_pair *pair = &items[list->count++];
    *pair = (struct pgqrs_pair){0};
    pgqrs_sqlite_time(row, 2, &pair->at_us);
    return pgqrs_sqlite_dup(row, 0, &pair->name, err) < 0
               ? -1
               : pgqrs_sqlite_dup(row, 1, &pair->json, err);
}

int pgqrs_sqlite_read_pairs(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t message_id,
                            struct pgqrs_pair_list *list, struct pgqrs_error *err)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, stmt_id, err);
    if (stmt == NULL) {
        return -1;
    }
    pgqrs_sqlite_bind_int(stmt, 1, message_id);
    int rc;
    while ((rc = pgqrs_sqlite_step(s, stmt, err)) > 0) {
        if (read_pair(stmt, list, err) < 0) {
            (void)sqlite3_reset(stmt); /* the failure is known */
            return -1;
        }
    }
    return rc;
}

int pgqrs_sqlite_run_steps(struct pgqrs_store *store, int64_t message_id,
                           struct pgqrs_step_list *list_out, struct pgqrs_error *err)
{
    struct sqlite_store *s = sqlite_of(store);
    int rc = pgqrs_sqlite_check_file(s, err) < 0
                 ? -1
                 : pgqrs_sqlite_read_steps(s, message_id, list_out, err);
    if (rc < 0) {
        pgqrs_step_list_fini(list_out);
    }
    return rc;
}

static int pairs(struct sqlite_store *s, enum sqlite_stmt_id stmt_id, int64_t message_id,
                 struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    int rc = pgqrs_sqlite_check_file(s, err) < 0
                 ? -1
                 : pgqrs_sqlite_read_pairs(s, stmt_id, message_id, list_out, err);
    if (rc < 0) {
        pgqrs_pair_list_fini(list_out);
    }
    return rc;
}

int pgqrs_sqlite_run_state(struct pgqrs_store *store, int64_t message_id,
                           struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    return pairs(sqlite_of(store), STMT_RUN_STATE, message_id, list_out, err);
}

int pgqrs_sqlite_run_events(struct pgqrs_store *store, int64_t message_id,
                            struct pgqrs_pair_list *list_out, struct pgqrs_error *err)
{
    return pairs(sqlite_of(store), STMT_RUN_EVENTS, message_id, list_out, err);
}
