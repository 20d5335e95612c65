/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_STORE_SUITE_H
#define PGQRS_TESTS_STORE_SUITE_H

/*
 * The cases that every store must pass, whatever its backend. A backend's test program gives a
 * factory and runs them; each case gets a new, empty store with a queue "q" and a worker "w", and
 * a wall clock that stands still until the case moves it. Whatever a case did, the store must
 * verify at its end.
 */

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "store/store.h"

struct suite_backend {
    const char *name; /* stands before the name of each case */
    /* Opens a store that nobody has used; it fails the test when it can not. */
    struct pgqrs_store *(*open)(void *arg);
    void (*close)(void *arg, struct pgqrs_store *store);
    /* Makes the store's clock stand still at this time; null: it is this process' wall clock,
     * which the suite sets. Called after the store is installed, too. */
    void (*set_clock)(void *arg, struct pgqrs_store *store, int64_t wall_us);
    /* Opens the same store once more, as another client; closed with pgqrs_store_close before the
     * first is. Null: it has but one. */
    struct pgqrs_store *(*open_again)(void *arg);
    /* Runs a statement of another program in the database of the store. Null: nobody else can, and
     * cases that need it are skipped. */
    void (*sql)(void *arg, struct pgqrs_store *store, const char *text);
    void *arg;
};

/* Runs every case; returns how many failed. */
int pgqrs_store_suite_run(const struct suite_backend *backend);

/* ---- for the cases ---- */

#define SUITE_START_US INT64_C(1767225600000000) /* 2026-01-01 00:00:00 UTC */
#define SUITE_LEASE_MS 30000

struct suite {
    const struct suite_backend *backend;
    struct pgqrs_store *store;
    int64_t now_us;
    int64_t queue, worker;
    struct pgqrs_exchange x;
    struct pgqrs_error err;
};

#define suite_ok(f, call)                                                                          \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            fail_msg("%s: %s", #call, (f)->err.text);                                              \
        }                                                                                          \
    } while (0)

#define suite_fails(f, call, expected)                                                             \
    do {                                                                                           \
        assert_int_equal((call), -1);                                                              \
        if ((f)->err.code != (expected)) {                                                         \
            fail_msg("%s: found code %d (%s)", #call, (int)(f)->err.code, (f)->err.text);          \
        }                                                                                          \
    } while (0)

void suite_setup(struct suite *f, const struct suite_backend *backend);
void suite_teardown(struct suite *f);

void suite_advance_ms(struct suite *f, int64_t ms);
int64_t suite_put(struct suite *f, const char *payload, int64_t delay_ms, int32_t priority);
int64_t suite_worker(struct suite *f, const char *name, uint64_t generation);
/* Leases up to count for the worker "w" from "q", in an exchange of its own. */
size_t suite_lease(struct suite *f, uint32_t count);
/* The one message that is leased next; it must be there. */
struct pgqrs_lease_ref suite_lease_one(struct suite *f);
struct pgqrs_settlement suite_settlement(struct pgqrs_lease_ref lease, enum pgqrs_settle how);
enum pgqrs_settled suite_settle(struct suite *f, struct pgqrs_settlement item);
/* The message as it is stored; free it with pgqrs_message_fini. */
struct pgqrs_message suite_get(struct suite *f, int64_t id);
/* Asserts that a text is this JSON value; a store may write it in its own way. */
void suite_assert_json(struct pgqrs_bytes found, const char *expected);
/* Asserts that the leases of the last exchange are these messages, in this order. */
void suite_assert_leased(const struct suite *f, const int64_t *ids, size_t count);

/* A case that needs another program's statement is skipped where there is none. */
void suite_sql(struct suite *f, const char *fmt, ...) PGQRS_PRINTF(2, 3);
/* A worker as a client of the library has it: no instance. name may be null; queue 0 is none. */
int64_t suite_foreign_worker(struct suite *f, const char *name, int64_t queue);
int64_t suite_queue(struct suite *f, const char *name);
int64_t suite_put_item(struct suite *f, int64_t queue, struct pgqrs_enqueue item);
/* Leases the next one of the queue for the worker. */
struct pgqrs_lease_ref suite_lease_for(struct suite *f, int64_t queue, int64_t worker);
struct pgqrs_worker_info suite_worker_info(struct suite *f, int64_t id); /* its texts are null */
enum pgqrs_acted suite_act(struct suite *f, enum pgqrs_act act, int64_t id);
/* Asserts state, attempts spent and last error ("": none) of a message. */
void suite_assert_message(struct suite *f, int64_t id, enum pgqrs_message_state state,
                          int32_t read_ct, const char *error);
void suite_assert_gone(struct suite *f, int64_t id);
struct pgqrs_queue_metrics suite_metrics(struct suite *f, int64_t queue);

extern const struct CMUnitTest suite_basic_cases[];
extern const size_t suite_basic_count;
extern const struct CMUnitTest suite_lease_cases[];
extern const size_t suite_lease_count;
extern const struct CMUnitTest suite_settle_cases[];
extern const size_t suite_settle_count;
extern const struct CMUnitTest suite_worker_cases[];
extern const size_t suite_worker_count;
extern const struct CMUnitTest suite_queue_cases[];
extern const size_t suite_queue_count;
extern const struct CMUnitTest suite_message_cases[];
extern const size_t suite_message_count;
extern const struct CMUnitTest suite_act_cases[];
extern const size_t suite_act_count;
extern const struct CMUnitTest suite_worker_state_cases[];
extern const size_t suite_worker_state_count;
extern const struct CMUnitTest suite_worker_admin_cases[];
extern const size_t suite_worker_admin_count;
extern const struct CMUnitTest suite_housekeeping_cases[];
extern const size_t suite_housekeeping_count;
extern const struct CMUnitTest suite_fault_cases[];
extern const size_t suite_fault_count;
extern const struct CMUnitTest suite_flow_cases[];
extern const size_t suite_flow_count;
extern const struct CMUnitTest suite_flow_step_cases[];
extern const size_t suite_flow_step_count;
extern const struct CMUnitTest suite_flow_event_cases[];
extern const size_t suite_flow_event_count;
extern const struct CMUnitTest suite_flow_run_cases[];
extern const size_t suite_flow_run_count;

int suite_case_setup(void **state);
int suite_case_teardown(void **state);
#define SUITE_CASE(function)                                                                       \
    cmocka_unit_test_setup_teardown(function, suite_case_setup, suite_case_teardown)

#endif
