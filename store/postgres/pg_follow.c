/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_exchange.h"

#include <stdlib.h>
#include <string.h>

/*
 * A group of settlements some of which bring follow-ups, in one transaction: first the outcomes,
 * then the follow-ups of those that were applied, and the leases. Nobody looks here whose fault a
 * failure is: the caller has other means.
 */

static int check(const struct pgqrs_exchange *x, size_t *count_out, struct pgqrs_error *err)
{
    *count_out = 0;
    for (size_t i = 0; i < x->settlement_count; i++) {
        const struct pgqrs_settlement *item = &x->settlements[i];
        for (size_t k = 0; k < item->follow_up_count; k++) {
            if (pgqrs_store_check_item(&item->follow_ups[k].item, k, err) < 0) {
                return -1;
            }
        }
        *count_out += item->follow_up_count;
    }
    return 0;
}

/* In the order of the group. Returns how many. */
static size_t of_the_applied(const struct pgqrs_exchange *x,
                             const struct pgqrs_follow_up **follow_ups)
{
    size_t n = 0;
    for (size_t i = 0; i < x->settlement_count; i++) {
        const struct pgqrs_settlement *item = &x->settlements[i];
        for (size_t k = 0; item->settled_out == PGQRS_SETTLED_YES && k < item->follow_up_count;
             k++) {
            follow_ups[n++] = &item->follow_ups[k];
        }
    }
    return n;
}

static void empty(struct pg_exchange *e)
{
    pgqrs_pg_batch_fini(&e->batch);
    memset(&e->batch, 0, sizeof e->batch);
    e->settle_count = 0;
}

static int add_and_lease(struct pg_store *s, struct pg_exchange *e,
                         const struct pgqrs_follow_up *const *follow_ups, size_t count,
                         struct pgqrs_error *err)
{
    empty(e);
    if (count > 0 && pgqrs_pg_add_follow_ups(&e->batch, follow_ups, count, err) < 0) {
        return -1;
    }
    do {
        e->settle_count = e->batch.count;
        pgqrs_pg_add_leases(e);
        if (pgqrs_pg_batch_run(s, &e->batch, err) < 0 || pgqrs_pg_take_leases(e, err) < 0) {
            return -1;
        }
        empty(e);
    } while (e->next_want < e->x->want_count);
    return 0;
}

static int within(struct pg_store *s, struct pg_exchange *e, struct pgqrs_settlement **sorted,
                  const struct pgqrs_follow_up **follow_ups, struct pgqrs_error *err)
{
    struct pgqrs_exchange *x = e->x;
    if (pgqrs_pg_add_settlements(e, x->settlements, x->settlement_count, err) < 0 ||
        pgqrs_pg_batch_run(s, &e->batch, err) < 0) {
        return -1;
    }
    (void)pgqrs_pg_take_settled(e, sorted, x->settlement_count);
    return add_and_lease(s, e, follow_ups, of_the_applied(x, follow_ups), err);
}

int pgqrs_pg_settle_and_follow(struct pg_store *s, struct pgqrs_exchange *x,
                               struct pgqrs_settlement **sorted, struct pgqrs_error *err)
{
    size_t count;
    if (check(x, &count, err) < 0) {
        return -1;
    }
    const struct pgqrs_follow_up **follow_ups = calloc(count + 1, sizeof *follow_ups);
    struct pg_exchange *e = calloc(1, sizeof *e);
    bool there = follow_ups != NULL && e != NULL;
    int rc = there ? pgqrs_pg_begin(s, err) : pgqrs_error_memory(err);
    if (there && rc == 0) {
        e->x = x;
        rc = (int)pgqrs_pg_end(s, within(s, e, sorted, follow_ups, err), err);
        pgqrs_pg_batch_fini(&e->batch);
    }
    free(e);
    free(follow_ups);
    return rc;
}
