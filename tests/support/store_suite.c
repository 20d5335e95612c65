/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

#include <stdio.h>
#include <stdlib.h>

#define CASES_MAX 100

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

void suite_assert_leased(const struct suite *f, const int64_t *ids, size_t count)
{
    assert_int_equal(f->x.lease_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(f->x.leases[i].message_id, ids[i]);
    }
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
