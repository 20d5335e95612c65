/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib_rig.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/store_priv.h"
#include "tests/support/pg_rig.h"
#include "tests/support/sqlite_rig.h"

static int begin(struct lib_rig *rig, void **state)
{
    if (pgqrs_connect(rig->dsn, &rig->options, &rig->client, &rig->why) < 0 ||
        pgqrs_install(rig->client, &rig->why) < 0 ||
        pgqrs_queue_create(rig->client, "q", NULL, &rig->why) < 0) {
        print_error("%s: %s\n", rig->dsn, rig->why.text);
        return -1;
    }
    *state = rig;
    return 0;
}

int lib_rig_setup_sqlite(void **state)
{
    struct lib_rig *rig = calloc(1, sizeof *rig);
    void *inner = NULL;
    if (rig == NULL || sqlite_rig_setup(&inner) != 0) {
        free(rig);
        return -1;
    }
    rig->sqlite = inner;
    rig->options.create = true;
    rig->options.synchronous_normal = true;
    (void)snprintf(rig->dsn, sizeof rig->dsn, "sqlite:%s", rig->sqlite->path);
    return begin(rig, state);
}

int lib_rig_setup_pg(void **state)
{
    struct lib_rig *rig = calloc(1, sizeof *rig);
    if (rig == NULL) {
        return -1;
    }
    rig->pg = pg_rig_create();
    if (rig->pg == NULL) {
        free(rig);
        return -1;
    }
    rig->options.schema = rig->pg->schema;
    rig->options.listen = true;
    (void)snprintf(rig->dsn, sizeof rig->dsn, "%s", rig->pg->dsn);
    return begin(rig, state);
}

int lib_rig_teardown(void **state)
{
    struct lib_rig *rig = *state;
    int rc = 0;
    pgqrs_disconnect(&rig->client);
    if (rig->sqlite != NULL) {
        void *inner = rig->sqlite;
        rc = sqlite_rig_teardown(&inner);
    }
    if (rig->pg != NULL) {
        pg_rig_destroy(rig->pg);
    }
    free(rig);
    return rc;
}

struct pgqrs_client *lib_rig_connect(const struct lib_rig *rig, const struct pgqrs_options *options)
{
    struct pgqrs_failure why;
    struct pgqrs_client *client = NULL;
    struct pgqrs_options o = options == NULL ? rig->options : *options;
    o.schema = rig->options.schema;
    if (pgqrs_connect(rig->dsn, &o, &client, &why) < 0) {
        fail_msg("%s: %s", rig->dsn, why.text);
    }
    return client;
}

void lib_rig_sql(struct lib_rig *rig, const char *sql)
{
    if (rig->sqlite != NULL) {
        sqlite_rig_sql(rig->sqlite, sql);
    } else {
        (void)pg_rig_raw(rig->pg);
        pg_rig_sql(rig->pg, "%s", sql);
    }
}

int64_t lib_rig_add(struct lib_rig *rig, const char *payload)
{
    const struct pgqrs_item item = pgqrs_item_of(payload);
    struct pgqrs_receipt receipt = {0};
    lib_is(rig, 1, pgqrs_enqueue(rig->client, "q", &item, &receipt, &rig->why));
    assert_true(receipt.id > 0);
    return receipt.id;
}

struct pgqrs_consumer *lib_rig_consumer(struct lib_rig *rig,
                                        const struct pgqrs_consumer_options *options)
{
    struct pgqrs_consumer_options o = {0};
    struct pgqrs_consumer *consumer = NULL;
    if (options != NULL) {
        o = *options;
    }
    o.queue = "q";
    lib_ok(rig, pgqrs_consumer_register(rig->client, &o, &consumer, &rig->why));
    return consumer;
}

struct pgqrs_batch *lib_rig_take(struct lib_rig *rig, struct pgqrs_consumer *consumer)
{
    struct pgqrs_batch *batch = NULL;
    lib_is(rig, 1, pgqrs_dequeue(consumer, 1, 0, &batch, &rig->why));
    assert_int_equal(batch->count, 1);
    assert_int_equal(strlen(batch->items[0].payload), batch->items[0].payload_len);
    return batch;
}

struct pgqrs_message_page *lib_rig_get(struct lib_rig *rig, int64_t id)
{
    struct pgqrs_message_page *page = NULL;
    lib_ok(rig, pgqrs_message_get(rig->client, id, &page, &rig->why));
    assert_int_equal(page->count, 1);
    assert_int_equal(page->items[0].id, id);
    return page;
}

void lib_rig_end(struct lib_rig *rig, struct pgqrs_consumer *consumer)
{
    lib_ok(rig, pgqrs_consumer_shutdown(&consumer, &rig->why));
}

void lib_rig_json_equal(const char *found, const char *expected)
{
    json_t *a = json_loads(found, JSON_DECODE_ANY, NULL);
    json_t *b = json_loads(expected, JSON_DECODE_ANY, NULL);
    if (a == NULL || b == NULL || !json_equal(a, b)) {
        fail_msg("found %s, expected %s", found, expected);
    }
    json_decref(a);
    json_decref(b);
}

/* ---- running ---- */

static bool pg_is_complete(void)
{
    struct pg_rig *rig = pg_rig_create();
    struct pgqrs_store *store = NULL;
    bool complete = false;
    if (rig != NULL && pg_rig_open(rig, NULL, &store) == 0) {
        const struct pgqrs_store_ops *ops = store->ops;
        complete = ops->enqueue != NULL && ops->exchange != NULL && ops->renew != NULL &&
                   ops->worker_register != NULL && ops->worker_beat != NULL &&
                   ops->worker_end != NULL && ops->worker_reconcile != NULL;
        pgqrs_store_close(&store);
    }
    if (rig != NULL) {
        pg_rig_destroy(rig);
    }
    return complete;
}

int lib_rig_run(const struct CMUnitTest *tests, size_t count)
{
    struct CMUnitTest *some = calloc(count, sizeof *some);
    size_t used = 0;
    bool pg = pg_is_complete();
    if (some == NULL) {
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        if (pg || strncmp(tests[i].name, "postgres_", strlen("postgres_")) != 0) {
            some[used++] = tests[i];
        }
    }
    int failed = _cmocka_run_group_tests("libpgqrs", some, used, NULL, NULL);
    free(some);
    return failed;
}
