/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_flow.h"

#include <stdlib.h>
#include <string.h>

#include "store/postgres/pg_exchange.h"

/*
 * What workers' runs have come to: plain items together, up to 256 in one round trip and one
 * commit; those that bring statements or follow-ups, or are about one message, after them and one
 * by one.
 */

static bool is_plain(const struct pgqrs_flow *item)
{
    return item->sql_count == 0 && item->follow_up_count == 0 && item->what != PGQRS_FLOW_CONTINUE;
}

/* One statement stores a step once. */
static bool names_a_step_twice(const struct pgqrs_flow *item)
{
    for (size_t i = 1; i < item->step_count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcmp(item->steps[i].name, item->steps[k].name) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool is_its_fault(const struct pgqrs_error *err)
{
    return err->code == PGQRS_ERR_INVALID || err->code == PGQRS_ERR_CONFLICT;
}

static int apply_set(struct pg_store *s, struct pgqrs_flow **items, size_t count,
                     struct pgqrs_error *err)
{
    struct pg_flow_set *set = calloc(1, sizeof *set);
    if (set == NULL) {
        return pgqrs_error_memory(err);
    }
    set->items = items;
    set->count = count;
    pgqrs_pg_flow_add(set, false);
    int rc = pgqrs_pg_flow_run(s, set, err);
    pgqrs_pg_batch_fini(&set->batch);
    free(set);
    return rc;
}

static int one_by_one(struct pg_store *s, struct pgqrs_flow **items, size_t count, bool *some_out,
                      struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (pgqrs_pg_flow_one(s, items[i], err) < 0) {
            return -1;
        }
        *some_out = true;
    }
    return 0;
}

/* Sorted by message, none twice. */
static int together(struct pg_store *s, struct pgqrs_flow **items, size_t count, bool *some_out,
                    struct pgqrs_error *err)
{
    for (size_t i = 0; i < count; i += PG_ROWS_MAX) {
        size_t n = count - i < PG_ROWS_MAX ? count - i : PG_ROWS_MAX;
        int rc = apply_set(s, items + i, n, err);
        if (rc < 0 && is_its_fault(err)) {
            rc = one_by_one(s, items + i, n, some_out, err);
        }
        if (rc < 0) {
            return -1;
        }
        *some_out = true;
        if (pgqrs_pg_flow_stored(s, items + i, n, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Into those that go together, from the front, and the others, in order, behind them. */
static size_t divide(struct pgqrs_flow *items, size_t count, struct pgqrs_flow **sorted,
                     struct pgqrs_flow **divided)
{
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &items[i];
        items[i].settled_out = PGQRS_SETTLED_NONE;
    }
    pgqrs_pg_flow_sort(sorted, count);
    size_t plain = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t id = sorted[i]->lease.message_id;
        bool alone = (i == 0 || sorted[i - 1]->lease.message_id != id) &&
                     (i + 1 == count || sorted[i + 1]->lease.message_id != id);
        if (alone && is_plain(sorted[i]) && !names_a_step_twice(sorted[i])) {
            divided[plain++] = sorted[i];
            sorted[i]->settled_out = PGQRS_SETTLED_YES; /* chosen, until it is known */
        }
    }
    size_t n = plain;
    for (size_t i = 0; i < count; i++) {
        if (items[i].settled_out == PGQRS_SETTLED_NONE) {
            divided[n++] = &items[i];
        }
    }
    return plain;
}

int pgqrs_pg_flow(struct pgqrs_store *store, struct pgqrs_flow *items, size_t count,
                  struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    struct pgqrs_flow **sorted = calloc(2 * count + 1, sizeof *sorted);
    bool some = false;
    if (sorted == NULL) {
        return pgqrs_error_memory(err);
    }
    struct pgqrs_flow **divided = sorted + count;
    size_t plain = divide(items, count, sorted, divided);
    int rc = together(s, divided, plain, &some, err);
    if (rc == 0) {
        rc = one_by_one(s, divided + plain, count - plain, &some, err);
    }
    free(sorted);
    for (size_t i = 0; rc < 0 && i < count; i++) {
        pgqrs_flow_fini(&items[i]);
        items[i].settled_out = PGQRS_SETTLED_NONE;
        items[i].failed_out = false;
    }
    if (rc < 0 && some && err != NULL) { /* something is committed: only a repetition tells what */
        err->code = PGQRS_ERR_UNKNOWN;
    }
    return rc;
}
