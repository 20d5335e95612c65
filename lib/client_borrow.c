/* SPDX-License-Identifier: Apache-2.0 */
/* Enqueueing on a connection of the caller: the one place that knows which databases there are. */
#include "lib/client_priv.h"

#include "store/store_borrow.h"

static int64_t store_items(struct pgqrs_store *store, const char *queue, struct client_items *items,
                           struct pgqrs_receipt *receipts_out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    int64_t id;
    if (pgqrs_store_queue_find(store, queue, &id, &err) < 0 ||
        pgqrs_store_enqueue(store, id, items->items, items->count, items->ids, items->existed,
                            &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    return pgqrs_client_receipts(items, receipts_out);
}

/* What was checked before the connection is touched. Free *items also after a failure. */
static int prepare(const struct pgqrs_enqueue_in *what, struct client_items *items,
                   struct pgqrs_failure *failure)
{
    struct client_rules rules;
    *items = (struct client_items){0};
    if (what == NULL || what->queue == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID, "queue: found no name");
    }
    if (PGQRS_CLIENT_RESERVED("enqueue", what, failure) < 0 ||
        pgqrs_client_rules_init(&rules, what->rules, false, failure) < 0) {
        return -1;
    }
    int rc = pgqrs_client_items_init(items, &rules, what->items, what->count, failure);
    pgqrs_client_rules_fini(&rules);
    return rc;
}

int64_t pgqrs_enqueue_sqlite(struct sqlite3 *db, const struct pgqrs_enqueue_in *what,
                             struct pgqrs_receipt *receipts_out, struct pgqrs_failure *failure)
{
    struct client_items items;
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    int64_t rc = prepare(what, &items, failure);
    if (rc == 0 && db == NULL) {
        rc = pgqrs_client_refuse(failure, PGQRS_E_INVALID, "connection: found null");
    }
    if (rc == 0 && items.count > 0) {
        rc = pgqrs_store_borrow_sqlite(db, &store, &err) < 0
                 ? pgqrs_client_fail(failure, &err)
                 : store_items(store, what->queue, &items, receipts_out, failure);
        pgqrs_store_close(&store);
    }
    pgqrs_client_items_fini(&items);
    return rc;
}

int64_t pgqrs_enqueue_pg(struct pg_conn *conn, const struct pgqrs_enqueue_in *what,
                         struct pgqrs_receipt *receipts_out, struct pgqrs_failure *failure)
{
    struct client_items items;
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    int64_t rc = prepare(what, &items, failure);
    if (rc == 0 && conn == NULL) {
        rc = pgqrs_client_refuse(failure, PGQRS_E_INVALID, "connection: found null");
    }
    if (rc == 0 && items.count > 0) {
        rc = pgqrs_store_borrow_postgres(conn, what->schema, &store, &err) < 0
                 ? pgqrs_client_fail(failure, &err)
                 : store_items(store, what->queue, &items, receipts_out, failure);
        pgqrs_store_close(&store);
    }
    pgqrs_client_items_fini(&items);
    return rc;
}
