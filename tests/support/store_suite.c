/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#define CASES_MAX 300

/* ---- the fixture ---- */

static void set_store_clock(struct suite *f)
{
    if (f->backend->set_clock != NULL) {
        f->backend->set_clock(f->backend->arg, f->store, f->now_us);
    }
}

void suite_setup(struct suite *f, const struct suite_backend *backend)
{
    *f = (struct suite){.backend = backend, .now_us = SUITE_START_US};
    pgqrs_clock_set_wall(f->now_us);
    f->store = backend->open(backend->arg);
    assert_non_null(f->store);
    suite_ok(f, pgqrs_store_install(f->store, &f->err));
    set_store_clock(f);
    suite_ok(f, pgqrs_store_queue_create(f->store, "q", &f->queue, &f->err));
    f->worker = suite_worker(f, "w", 1);
}

void suite_teardown(struct suite *f)
{
    int verified = pgqrs_store_verify(f->store, &f->err);
    f->backend->close(f->backend->arg, f->store);
    pgqrs_exchange_fini(&f->x);
    pgqrs_clock_set_wall(0);
    suite_ok(f, verified);
}

void suite_advance_ms(struct suite *f, int64_t ms)
{
    f->now_us += ms * 1000;
    pgqrs_clock_set_wall(f->now_us);
    set_store_clock(f);
}

int64_t suite_put(struct suite *f, const char *payload, int64_t delay_ms, int32_t priority)
{
    const struct pgqrs_enqueue item = {
        .payload = pgqrs_bytes_from(payload), .delay_ms = delay_ms, .priority = priority};
    int64_t id = 0;
    suite_ok(f, pgqrs_store_enqueue(f->store, f->queue, &item, 1, &id, NULL, &f->err));
    assert_true(id > 0);
    return id;
}

int64_t suite_worker(struct suite *f, const char *name, uint64_t generation)
{
    const struct pgqrs_worker_row row = {.name = name,
                                         .queue_id = f->queue,
                                         .instance = "run-1",
                                         .generation = generation,
                                         .pid = 4711};
    int64_t id = 0;
    suite_ok(f, pgqrs_store_worker_register(f->store, &row, &id, &f->err));
    assert_true(id > 0);
    return id;
}

size_t suite_lease(struct suite *f, uint32_t count)
{
    const struct pgqrs_want want = {.queue_id = f->queue,
                                    .worker_id = f->worker,
                                    .count = count,
                                    .max_attempts = 5,
                                    .lease_ms = SUITE_LEASE_MS};
    f->x.settlements = NULL;
    f->x.settlement_count = 0;
    f->x.wants = &want;
    f->x.want_count = 1;
    suite_ok(f, pgqrs_store_exchange(f->store, &f->x, &f->err));
    f->x.wants = NULL;
    f->x.want_count = 0;
    return f->x.lease_count;
}

struct pgqrs_lease_ref suite_lease_one(struct suite *f)
{
    assert_int_equal(suite_lease(f, 1), 1);
    return (struct pgqrs_lease_ref){.message_id = f->x.leases[0].message_id,
                                    .worker_id = f->worker,
                                    .attempt = f->x.leases[0].attempt};
}

struct pgqrs_settlement suite_settlement(struct pgqrs_lease_ref lease, enum pgqrs_settle how)
{
    return (struct pgqrs_settlement){.message_id = lease.message_id,
                                     .worker_id = lease.worker_id,
                                     .attempt = lease.attempt,
                                     .how = how};
}

enum pgqrs_settled suite_settle(struct suite *f, struct pgqrs_settlement item)
{
    struct pgqrs_exchange x = {.settlements = &item, .settlement_count = 1};
    suite_ok(f, pgqrs_store_exchange(f->store, &x, &f->err));
    assert_int_equal(x.lease_count, 0);
    pgqrs_exchange_fini(&x);
    return item.settled_out;
}

struct pgqrs_message suite_get(struct suite *f, int64_t id)
{
    struct pgqrs_message message;
    suite_ok(f, pgqrs_store_message_get(f->store, id, &message, &f->err));
    assert_int_equal(message.id, id);
    return message;
}

void suite_assert_json(struct pgqrs_bytes found, const char *expected)
{
    json_t *a = json_loadb(found.data, found.len, JSON_DECODE_ANY, NULL);
    json_t *b = json_loads(expected, JSON_DECODE_ANY, NULL);
    assert_non_null(b);
    if (!json_equal(a, b)) {
        fail_msg("found %.*s, expected %s", (int)found.len, found.data, expected);
    }
    json_decref(a);
    json_decref(b);
}

void suite_assert_leased(const struct suite *f, const int64_t *ids, size_t count)
{
    assert_int_equal(f->x.lease_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(f->x.leases[i].message_id, ids[i]);
    }
}

void suite_sql(struct suite *f, const char *fmt, ...)
{
    char text[1000];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    assert_true(len > 0 && len < (int)sizeof text);
    if (f->backend->sql == NULL) {
        skip();
        return;
    }
    f->backend->sql(f->backend->arg, f->store, text);
}

int64_t suite_foreign_worker(struct suite *f, const char *name, int64_t queue)
{
    const struct pgqrs_worker_row row = {.name = name, .queue_id = queue};
    int64_t id = 0;
    suite_ok(f, pgqrs_store_worker_register(f->store, &row, &id, &f->err));
    assert_true(id > 0);
    return id;
}

int64_t suite_queue(struct suite *f, const char *name)
{
    int64_t id = 0;
    suite_ok(f, pgqrs_store_queue_create(f->store, name, &id, &f->err));
    assert_true(id > 0);
    return id;
}

int64_t suite_put_item(struct suite *f, int64_t queue, struct pgqrs_enqueue item)
{
    int64_t id = 0;
    item.payload = item.payload.len == 0 ? pgqrs_bytes_from("{}") : item.payload;
    suite_ok(f, pgqrs_store_enqueue(f->store, queue, &item, 1, &id, NULL, &f->err));
    assert_true(id > 0);
    return id;
}

struct pgqrs_lease_ref suite_lease_for(struct suite *f, int64_t queue, int64_t worker)
{
    int64_t old_queue = f->queue;
    int64_t old_worker = f->worker;
    f->queue = queue;
    f->worker = worker;
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    f->queue = old_queue;
    f->worker = old_worker;
    return lease;
}

struct pgqrs_worker_info suite_worker_info(struct suite *f, int64_t id)
{
    const struct pgqrs_worker_filter filter = {.id = id, .limit = 10};
    struct pgqrs_worker_info_list list;
    suite_ok(f, pgqrs_store_worker_list(f->store, &filter, &list, &f->err));
    assert_int_equal(list.count, 1);
    struct pgqrs_worker_info info = list.items[0];
    pgqrs_worker_info_list_fini(&list);
    assert_int_equal(info.id, id);
    info.name = info.instance = NULL;
    return info;
}

enum pgqrs_acted suite_act(struct suite *f, enum pgqrs_act act, int64_t id)
{
    enum pgqrs_acted acted = PGQRS_ACTED_NONE;
    int64_t count = pgqrs_store_message_act(f->store, act, &id, 1, &acted, &f->err);
    suite_ok(f, count);
    assert_int_equal(count, acted == PGQRS_ACTED_YES ? 1 : 0);
    return acted;
}

void suite_assert_message(struct suite *f, int64_t id, enum pgqrs_message_state state,
                          int32_t read_ct, const char *error)
{
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.state, state);
    assert_int_equal(m.read_ct, read_ct);
    assert_string_equal(m.error == NULL ? "" : m.error, error);
    pgqrs_message_fini(&m);
}

void suite_assert_gone(struct suite *f, int64_t id)
{
    struct pgqrs_message m;
    suite_fails(f, pgqrs_store_message_get(f->store, id, &m, &f->err), PGQRS_ERR_NOT_FOUND);
}

struct pgqrs_queue_metrics suite_metrics(struct suite *f, int64_t queue)
{
    struct pgqrs_queue_metrics metrics;
    suite_ok(f, pgqrs_store_queue_metrics(f->store, queue, 0, &metrics, &f->err));
    return metrics;
}

/* ---- running ---- */

/* cmocka hands a case the backend as its initial state, and takes the fixture for it. */
int suite_case_setup(void **state)
{
    struct suite *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return -1;
    }
    suite_setup(f, *state);
    *state = f;
    return 0;
}

int suite_case_teardown(void **state)
{
    struct suite *f = *state;
    suite_teardown(f);
    free(f);
    return 0;
}

int pgqrs_store_suite_run(const struct suite_backend *backend)
{
    const struct {
        const struct CMUnitTest *cases;
        size_t count;
    } parts[] = {
        {suite_basic_cases, suite_basic_count},
        {suite_lease_cases, suite_lease_count},
        {suite_settle_cases, suite_settle_count},
        {suite_worker_cases, suite_worker_count},
        {suite_queue_cases, suite_queue_count},
        {suite_message_cases, suite_message_count},
        {suite_act_cases, suite_act_count},
        {suite_worker_state_cases, suite_worker_state_count},
        {suite_worker_admin_cases, suite_worker_admin_count},
        {suite_housekeeping_cases, suite_housekeeping_count},
        {suite_fault_cases, suite_fault_count},
        {suite_flow_cases, suite_flow_count},
        {suite_flow_step_cases, suite_flow_step_count},
        {suite_flow_event_cases, suite_flow_event_count},
        {suite_flow_run_cases, suite_flow_run_count},
    };
    struct CMUnitTest cases[CASES_MAX];
    char *names[CASES_MAX] = {NULL};
    size_t count = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        for (size_t k = 0; k < parts[i].count && count < CASES_MAX; k++) {
            cases[count] = parts[i].cases[k];
            cases[count].initial_state = (void *)(uintptr_t)backend;
            if (asprintf(&names[count], "%s_%s", backend->name, cases[count].name) >= 0) {
                cases[count].name = names[count];
            }
            count++;
        }
    }
    int failed = _cmocka_run_group_tests(backend->name, cases, count, NULL, NULL);
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    return failed;
}
