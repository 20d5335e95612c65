/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_priv.h"

#include <stdlib.h>

/* The workers that brokers have registered and not yet ended. */

static const struct pg_stmt worker_live = {
    .name = "worker_live",
    .sql = "SELECT id, queue_id, pgqrsd_generation, pgqrsd_instance, name FROM pgqrs_workers"
           " WHERE pgqrsd_instance IS NOT NULL AND status <> 'stopped' ORDER BY id",
};

static int read_row(const PGresult *result, int row, struct pgqrs_worker_ref *ref,
                    struct pgqrs_error *err)
{
    ref->id = pgqrs_pg_int(result, row, 0);
    ref->queue_id = pgqrs_pg_int(result, row, 1);
    ref->generation = (uint64_t)pgqrs_pg_int(result, row, 2);
    return pgqrs_pg_dup(result, row, 3, &ref->instance, err) < 0
               ? -1
               : pgqrs_pg_dup(result, row, 4, &ref->name, err);
}

int pgqrs_pg_worker_list_live(struct pgqrs_store *store, struct pgqrs_worker_list *list_out,
                              struct pgqrs_error *err)
{
    struct pgqrs_worker_list list = {0};
    PGresult *result = pgqrs_pg_run(pg_of(store), &worker_live, NULL, true, err);
    if (result == NULL) {
        return -1;
    }
    size_t rows = (size_t)PQntuples(result);
    int rc = 0;
    list.items = rows == 0 ? NULL : calloc(rows, sizeof *list.items);
    if (rows > 0 && list.items == NULL) {
        rc = pgqrs_error_memory(err);
    }
    while (rc == 0 && list.count < rows) {
        rc = read_row(result, (int)list.count, &list.items[list.count], err);
        list.count++;
    }
    PQclear(result);
    if (rc < 0) {
        pgqrs_worker_list_fini(&list);
        return -1;
    }
    *list_out = list;
    return 0;
}
