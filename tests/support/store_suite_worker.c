/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

/* The rows of workers, and what happens to the leases of those that are gone. */

static void same_worker_seen_again(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    assert_int_equal(suite_worker(f, "w", 1), f->worker);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    assert_int_not_equal(suite_worker(f, "w2", 2), f->worker);
}

static void list_live(struct suite *f, struct pgqrs_worker_info_list *list)
{
    const struct pgqrs_worker_filter filter = {.live = true, .ours = true, .limit = 1000};
    suite_ok(f, pgqrs_store_worker_list(f->store, &filter, list, &f->err));
}

static const struct pgqrs_worker_info *find_live(const struct pgqrs_worker_info_list *list,
                                                 int64_t id)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].id == id) {
            return &list->items[i];
        }
    }
    return NULL;
}

static void taken_over(void **state)
{
    struct suite *f = *state;
    const struct pgqrs_release release = {.max_attempts = 5, .reason = "gone"};
    int64_t freed = pgqrs_store_worker_end(f->store, f->worker, &release, &f->err);
    assert_int_equal(freed, 0);
    struct pgqrs_worker_info_list list;
    list_live(f, &list);
    assert_int_equal(list.count, 0);
    pgqrs_worker_info_list_fini(&list);

    int64_t other = 0;
    int64_t id = 0;
    suite_ok(f, pgqrs_store_queue_create(f->store, "other", &other, &f->err));
    const struct pgqrs_worker_row row = {
        .name = "w", .queue_id = other, .instance = "run-2", .generation = UINT64_MAX, .pid = 1};
    suite_ok(f, pgqrs_store_worker_register(f->store, &row, &id, &f->err));
    assert_int_equal(id, f->worker);
    list_live(f, &list);
    const struct pgqrs_worker_info *live = find_live(&list, id);
    assert_non_null(live);
    assert_int_equal(live->queue_id, other);
    assert_int_equal(live->generation, UINT64_MAX);
    assert_string_equal(live->instance, "run-2");
    assert_string_equal(live->name, "w");
    pgqrs_worker_info_list_fini(&list);
    assert_null(list.items);
}

/* Generations count anew in each run of the supervisor. */
static void the_run_counts_too(void **state)
{
    struct suite *f = *state;
    const struct pgqrs_worker_row row = {
        .name = "w", .queue_id = f->queue, .instance = "run-2", .generation = 1, .pid = 1};
    int64_t id = 0;
    suite_ok(f, pgqrs_store_worker_register(f->store, &row, &id, &f->err));
    assert_int_equal(id, f->worker);
    struct pgqrs_worker_info_list list;
    list_live(f, &list);
    const struct pgqrs_worker_info *live = find_live(&list, id);
    assert_non_null(live);
    assert_string_equal(live->instance, "run-2");
    pgqrs_worker_info_list_fini(&list);
}

static void register_needs_a_queue(void **state)
{
    struct suite *f = *state;
    struct pgqrs_worker_row row = {
        .name = "x", .queue_id = 4242, .instance = "run", .generation = 1, .pid = 1};
    int64_t id = 0;
    suite_fails(f, pgqrs_store_worker_register(f->store, &row, &id, &f->err), PGQRS_ERR_NOT_FOUND);
    row.queue_id = f->queue;
    row.name = "";
    suite_fails(f, pgqrs_store_worker_register(f->store, &row, &id, &f->err), PGQRS_ERR_INVALID);
}

static void beating(void **state)
{
    struct suite *f = *state;
    int64_t ids[2] = {f->worker, suite_worker(f, "w2", 2)};
    suite_ok(f, pgqrs_store_worker_beat(f->store, ids, 2, &f->err));
    suite_ok(f, pgqrs_store_worker_beat(f->store, NULL, 0, &f->err));
    ids[0] = 777;
    suite_fails(f, pgqrs_store_worker_beat(f->store, ids, 2, &f->err), PGQRS_ERR_NOT_FOUND);
    assert_non_null(strstr(f->err.text, "777"));
}

static int64_t end_first(struct suite *f, const struct pgqrs_release *release)
{
    return pgqrs_store_worker_end(f->store, f->worker, release, &f->err);
}

/* Three leases: the most urgent is the one that ran. */
static void ending_charges_the_one_that_ran(void **state)
{
    struct suite *f = *state;
    int64_t second = suite_put(f, "2", 0, 0);
    int64_t done = suite_put(f, "3", 0, 0);
    int64_t ran = suite_put(f, "1", 0, 1);
    int64_t due_us = f->now_us;
    assert_int_equal(suite_lease(f, 3), 3);
    const struct pgqrs_lease_ref ref = {.message_id = done, .worker_id = f->worker, .attempt = 1};
    assert_int_equal(suite_settle(f, suite_settlement(ref, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    suite_advance_ms(f, 40);
    const struct pgqrs_release release = {.charge = true,
                                          .crashed = true,
                                          .max_attempts = 1,
                                          .max_crashes = 2,
                                          .reason = "signal 11"};
    assert_int_equal(end_first(f, &release), 2);

    struct pgqrs_message m = suite_get(f, ran);
    assert_int_equal(m.state, PGQRS_STATE_READY);
    assert_int_equal(m.vt_us, f->now_us);
    assert_int_equal(m.read_ct, 1);
    assert_int_equal(m.crash_ct, 1);
    assert_string_equal(m.error, "signal 11");
    pgqrs_message_fini(&m);
    m = suite_get(f, second);
    assert_int_equal(m.state, PGQRS_STATE_READY);
    assert_int_equal(m.vt_us, due_us);
    assert_int_equal(m.read_ct, 0);
    assert_int_equal(m.crash_ct, 0);
    assert_null(m.error);
    pgqrs_message_fini(&m);
    m = suite_get(f, done);
    assert_string_equal(m.outcome, "done");
    assert_null(m.error);
    pgqrs_message_fini(&m);
    assert_int_equal(end_first(f, &release), 0);
    assert_int_equal(pgqrs_store_worker_end(f->store, 999, &release, &f->err), 0);

    f->worker = suite_worker(f, "w2", 2);
    assert_int_equal(suite_lease(f, 1), 1);
    assert_int_equal(end_first(f, &release), 1);
    m = suite_get(f, ran);
    assert_string_equal(m.outcome, "failed");
    assert_int_equal(m.read_ct, 2);
    assert_int_equal(m.crash_ct, 2);
    pgqrs_message_fini(&m);
}

static void ending_buries_what_is_used_up(void **state)
{
    struct suite *f = *state;
    int64_t worn = suite_put(f, "1", 0, 0);
    int64_t other = suite_put(f, "2", 0, 0);
    assert_int_equal(suite_lease(f, 2), 2);
    int64_t first = f->worker;
    int64_t held_by_other = suite_put(f, "4", 0, 0);
    f->worker = suite_worker(f, "w2", 2);
    assert_int_equal(suite_lease(f, 1), 1);
    f->worker = first;
    const struct pgqrs_release release = {.charge = true, .max_attempts = 1, .reason = "lost"};
    assert_int_equal(end_first(f, &release), 2);
    struct pgqrs_message m = suite_get(f, worn);
    assert_string_equal(m.outcome, "failed");
    assert_string_equal(m.error, "lost");
    assert_int_equal(m.archived_at_us, f->now_us);
    assert_int_equal(m.crash_ct, 0);
    pgqrs_message_fini(&m);
    m = suite_get(f, other);
    assert_int_equal(m.state, PGQRS_STATE_READY);
    assert_int_equal(m.read_ct, 0);
    pgqrs_message_fini(&m);
    m = suite_get(f, held_by_other);
    assert_int_equal(m.state, PGQRS_STATE_LEASED);
    pgqrs_message_fini(&m);
}

static void ending_without_a_charge_spends_nothing(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    assert_int_equal(suite_lease(f, 1), 1);
    const struct pgqrs_release release = {.max_attempts = 1, .reason = "lost"};
    assert_int_equal(end_first(f, &release), 1);
    struct pgqrs_message m = suite_get(f, id);
    assert_int_equal(m.state, PGQRS_STATE_READY);
    assert_int_equal(m.read_ct, 0);
    pgqrs_message_fini(&m);
}

static void a_result_after_the_end_is_refused(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    const struct pgqrs_release release = {.charge = true, .max_attempts = 5, .reason = "lost"};
    assert_int_equal(pgqrs_store_worker_end(f->store, f->worker, &release, &f->err), 1);
    f->worker = suite_worker(f, "w2", 2);
    assert_int_equal(suite_lease_one(f).attempt, 2);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_REFUSED);
}

static void reconciling(void **state)
{
    struct suite *f = *state;
    int64_t ids[3];
    for (int i = 0; i < 3; i++) {
        ids[i] = suite_put(f, "1", 0, 0);
    }
    assert_int_equal(suite_lease(f, 3), 3);
    struct pgqrs_lease_ref known[2] = {
        {.message_id = ids[0], .worker_id = f->worker, .attempt = 1},
        {.message_id = ids[1], .worker_id = f->worker, .attempt = 2}};
    assert_int_equal(pgqrs_store_worker_reconcile(f->store, f->worker, known, 2, &f->err), 2);
    assert_int_equal(pgqrs_store_worker_reconcile(f->store, f->worker, known, 2, &f->err), 0);
    struct pgqrs_message m = suite_get(f, ids[0]);
    assert_int_equal(m.state, PGQRS_STATE_LEASED);
    pgqrs_message_fini(&m);
    m = suite_get(f, ids[1]);
    assert_int_equal(m.state, PGQRS_STATE_READY);
    assert_int_equal(m.read_ct, 0);
    assert_int_equal(m.vt_us, SUITE_START_US);
    pgqrs_message_fini(&m);
    assert_int_equal(pgqrs_store_worker_reconcile(f->store, f->worker, NULL, 0, &f->err), 1);
    suite_lease(f, 5);
    suite_assert_leased(f, ids, 3);
}

static void worker_without_a_row(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    int64_t worker = f->worker;
    f->worker = 4242;
    assert_int_equal(suite_lease(f, 1), 0);
    f->worker = worker;
    assert_int_equal(suite_lease(f, 1), 1);
}

const struct CMUnitTest suite_worker_cases[] = {
    SUITE_CASE(same_worker_seen_again),
    SUITE_CASE(taken_over),
    SUITE_CASE(the_run_counts_too),
    SUITE_CASE(register_needs_a_queue),
    SUITE_CASE(beating),
    SUITE_CASE(ending_charges_the_one_that_ran),
    SUITE_CASE(ending_buries_what_is_used_up),
    SUITE_CASE(ending_without_a_charge_spends_nothing),
    SUITE_CASE(a_result_after_the_end_is_refused),
    SUITE_CASE(reconciling),
    SUITE_CASE(worker_without_a_row),
};
const size_t suite_worker_count = sizeof suite_worker_cases / sizeof *suite_worker_cases;
