/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

/* The states of a worker: every move from every state, and what it does to what the worker holds.
 */

#define STATE(name) PGQRS_WORKER_##name

/* NONE: refused. */
static const enum pgqrs_worker_state table[PGQRS_MOVE_COUNT][PGQRS_WORKER_STATE_COUNT] = {
    [PGQRS_MOVE_POLL] = {[STATE(READY)] = STATE(POLLING), [STATE(POLLING)] = STATE(POLLING)},
    [PGQRS_MOVE_COMPLETE_POLL] = {[STATE(POLLING)] = STATE(READY)},
    [PGQRS_MOVE_INTERRUPT] = {[STATE(READY)] = STATE(INTERRUPTED),
                              [STATE(POLLING)] = STATE(INTERRUPTED)},
    [PGQRS_MOVE_SUSPEND] = {[STATE(READY)] = STATE(SUSPENDED),
                            [STATE(POLLING)] = STATE(SUSPENDED),
                            [STATE(INTERRUPTED)] = STATE(SUSPENDED)},
    [PGQRS_MOVE_RESUME] = {[STATE(SUSPENDED)] = STATE(READY)},
    [PGQRS_MOVE_SHUTDOWN] = {[STATE(SUSPENDED)] = STATE(STOPPED)},
    [PGQRS_MOVE_STOP] = {[STATE(READY)] = STATE(STOPPED),
                         [STATE(POLLING)] = STATE(STOPPED),
                         [STATE(SUSPENDED)] = STATE(STOPPED),
                         [STATE(INTERRUPTED)] = STATE(STOPPED),
                         [STATE(STOPPED)] = STATE(STOPPED)},
};

static const enum pgqrs_worker_move way_to[PGQRS_WORKER_STATE_COUNT] = {
    [STATE(POLLING)] = PGQRS_MOVE_POLL,
    [STATE(SUSPENDED)] = PGQRS_MOVE_SUSPEND,
    [STATE(INTERRUPTED)] = PGQRS_MOVE_INTERRUPT,
    [STATE(STOPPED)] = PGQRS_MOVE_STOP,
};

static int move(struct suite *f, int64_t worker, enum pgqrs_worker_move how)
{
    return pgqrs_store_worker_move(f->store, worker, how, &f->err);
}

/* A new worker in that state. */
static int64_t worker_in(struct suite *f, int state)
{
    int64_t id = suite_foreign_worker(f, NULL, f->queue);
    if (way_to[state] != PGQRS_MOVE_NONE) {
        suite_ok(f, move(f, id, way_to[state]));
    }
    assert_int_equal(suite_worker_info(f, id).state, state);
    return id;
}

static void every_move_from_every_state(void **state)
{
    struct suite *f = *state;
    for (int from = PGQRS_WORKER_READY; from < PGQRS_WORKER_STATE_COUNT; from++) {
        for (int how = PGQRS_MOVE_POLL; how < PGQRS_MOVE_COUNT; how++) {
            int64_t id = worker_in(f, from);
            suite_advance_ms(f, 3);
            enum pgqrs_worker_state to = table[how][from];
            if (to == PGQRS_WORKER_NONE) {
                suite_fails(f, move(f, id, (enum pgqrs_worker_move)how), PGQRS_ERR_CONFLICT);
                assert_non_null(
                    strstr(f->err.text, pgqrs_worker_state_name((enum pgqrs_worker_state)from)));
                to = (enum pgqrs_worker_state)from;
            } else {
                suite_ok(f, move(f, id, (enum pgqrs_worker_move)how));
            }
            struct pgqrs_worker_info worker = suite_worker_info(f, id);
            assert_int_equal(worker.state, to);
            assert_int_equal(worker.heartbeat_at_us, f->now_us - 3000);
            if (from != PGQRS_WORKER_STOPPED) {
                int64_t shutdown = to == PGQRS_WORKER_STOPPED ? f->now_us : 0;
                assert_int_equal(worker.shutdown_at_us, shutdown);
            }
        }
    }
}

static void moving_what_is_not_there(void **state)
{
    struct suite *f = *state;
    for (int how = PGQRS_MOVE_POLL; how < PGQRS_MOVE_COUNT; how++) {
        suite_fails(f, move(f, 4711, (enum pgqrs_worker_move)how), PGQRS_ERR_NOT_FOUND);
    }
    suite_fails(f, move(f, f->worker, PGQRS_MOVE_NONE), PGQRS_ERR_INVALID);
    suite_fails(f, move(f, f->worker, PGQRS_MOVE_COUNT), PGQRS_ERR_INVALID);
}

static void state_names(void **state)
{
    (void)state;
    assert_string_equal(pgqrs_worker_state_name(PGQRS_WORKER_READY), "ready");
    assert_string_equal(pgqrs_worker_state_name(PGQRS_WORKER_STOPPED), "stopped");
    assert_null(pgqrs_worker_state_name(PGQRS_WORKER_NONE));
    assert_null(pgqrs_worker_state_name(PGQRS_WORKER_STATE_COUNT));
}

static void only_the_awake_are_given_work(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    for (int at = PGQRS_WORKER_READY; at < PGQRS_WORKER_STATE_COUNT; at++) {
        f->worker = worker_in(f, at);
        bool awake = at == PGQRS_WORKER_READY || at == PGQRS_WORKER_POLLING;
        assert_int_equal(suite_lease(f, 1), awake ? 1 : 0);
        if (awake) {
            const struct pgqrs_lease_ref lease = {
                .message_id = f->x.leases[0].message_id, .worker_id = f->worker, .attempt = 1};
            assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETURN)),
                             PGQRS_SETTLED_YES);
        }
    }
}

/* Suspended while it works: what it holds it may finish, more it does not get. */
static void suspended_while_it_works(void **state)
{
    struct suite *f = *state;
    suite_put(f, "1", 0, 0);
    suite_put(f, "2", 0, 0);
    struct pgqrs_lease_ref held = suite_lease_one(f);
    suite_ok(f, move(f, f->worker, PGQRS_MOVE_SUSPEND));
    assert_int_equal(suite_lease(f, 1), 0);
    assert_int_equal(pgqrs_store_renew(f->store, &held, 1, SUITE_LEASE_MS, NULL, &f->err), 1);
    suite_fails(f, move(f, f->worker, PGQRS_MOVE_SHUTDOWN), PGQRS_ERR_CONFLICT);
    assert_int_equal(suite_worker_info(f, f->worker).state, PGQRS_WORKER_SUSPENDED);
    assert_int_equal(suite_worker_info(f, f->worker).held, 1);
    assert_int_equal(suite_settle(f, suite_settlement(held, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_YES);
    suite_ok(f, move(f, f->worker, PGQRS_MOVE_RESUME));
    assert_int_equal(suite_lease(f, 1), 1);
}

static void shutting_down_while_it_holds(void **state)
{
    struct suite *f = *state;
    struct pgqrs_lease_ref refs[3];
    for (size_t i = 0; i < 3; i++) {
        suite_put(f, "1", 0, 0);
        refs[i] = suite_lease_one(f);
    }
    suite_ok(f, move(f, f->worker, PGQRS_MOVE_SUSPEND));
    static const enum pgqrs_settle ways[] = {PGQRS_SETTLE_RETURN, PGQRS_SETTLE_ARCHIVE,
                                             PGQRS_SETTLE_RETRY};
    for (size_t i = 0; i < 3; i++) {
        char expected[8] = {(char)('3' - i)};
        suite_fails(f, move(f, f->worker, PGQRS_MOVE_SHUTDOWN), PGQRS_ERR_CONFLICT);
        assert_non_null(strstr(f->err.text, expected));
        assert_int_equal(suite_settle(f, suite_settlement(refs[i], ways[i])), PGQRS_SETTLED_YES);
    }
    suite_advance_ms(f, 1);
    suite_ok(f, move(f, f->worker, PGQRS_MOVE_SHUTDOWN));
    assert_int_equal(suite_worker_info(f, f->worker).shutdown_at_us, f->now_us);
}

static void stopping_frees_what_it_holds(void **state)
{
    struct suite *f = *state;
    int64_t ids[2] = {suite_put(f, "1", 0, 0), suite_put(f, "2", 0, 0)};
    struct pgqrs_lease_ref first = suite_lease_one(f);
    suite_lease_one(f);
    int64_t theirs = suite_put(f, "3", 0, 0);
    suite_lease_for(f, f->queue, suite_worker(f, "w2", 2));
    suite_advance_ms(f, 9);
    suite_ok(f, move(f, f->worker, PGQRS_MOVE_STOP));
    for (int i = 0; i < 2; i++) {
        struct pgqrs_message m = suite_get(f, ids[i]);
        assert_int_equal(m.state, PGQRS_STATE_READY);
        assert_int_equal(m.vt_us, f->now_us);
        assert_int_equal(m.read_ct, 1);
        pgqrs_message_fini(&m);
    }
    suite_assert_message(f, theirs, PGQRS_STATE_LEASED, 1, "");
    assert_int_equal(suite_settle(f, suite_settlement(first, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_REFUSED);
    assert_int_equal(suite_lease(f, 5), 0);
    assert_int_equal(suite_worker_info(f, f->worker).held, 0);
}

/* ---- registering as a client of the library does ---- */

static void names_made_up(void **state)
{
    struct suite *f = *state;
    int64_t a = suite_foreign_worker(f, NULL, f->queue);
    int64_t b = suite_foreign_worker(f, NULL, 0);
    assert_int_not_equal(a, b);
    struct pgqrs_worker_filter filter = {.name_prefix = "__ephemeral__", .limit = 10};
    struct pgqrs_worker_info_list list;
    suite_ok(f, pgqrs_store_worker_list(f->store, &filter, &list, &f->err));
    assert_int_equal(list.count, 2);
    assert_int_equal(list.items[0].id, b);
    assert_int_equal(list.items[0].queue_id, 0);
    assert_int_equal(list.items[1].queue_id, f->queue);
    assert_int_equal(list.items[1].state, PGQRS_WORKER_READY);
    assert_null(list.items[1].instance);
    assert_string_not_equal(list.items[0].name, list.items[1].name);
    pgqrs_worker_info_list_fini(&list);
    const struct pgqrs_worker_row row = {.instance = "run", .queue_id = f->queue};
    int64_t id;
    suite_fails(f, pgqrs_store_worker_register(f->store, &row, &id, &f->err), PGQRS_ERR_INVALID);
}

static int register_named(struct suite *f, const char *name, int64_t stale_ms, int64_t *id)
{
    const struct pgqrs_worker_row row = {
        .name = name, .queue_id = f->queue, .stale_ms = stale_ms, .pid = 12};
    return pgqrs_store_worker_register(f->store, &row, id, &f->err);
}

static void a_name_in_use(void **state)
{
    struct suite *f = *state;
    int64_t id = 0;
    int64_t worker = suite_foreign_worker(f, "mine", f->queue);
    static const enum pgqrs_worker_state seen[] = {
        PGQRS_WORKER_READY, PGQRS_WORKER_POLLING, PGQRS_WORKER_INTERRUPTED, PGQRS_WORKER_SUSPENDED};
    for (size_t i = 0; i < 4; i++) {
        if (way_to[seen[i]] != PGQRS_MOVE_NONE) {
            suite_ok(f, move(f, worker, way_to[seen[i]]));
        }
        suite_fails(f, register_named(f, "mine", 0, &id), PGQRS_ERR_EXISTS);
        assert_non_null(strstr(f->err.text, pgqrs_worker_state_name(seen[i])));
        suite_fails(f, register_named(f, "mine", 1000, &id), PGQRS_ERR_EXISTS);
    }
    suite_ok(f, move(f, worker, PGQRS_MOVE_SHUTDOWN));
    suite_advance_ms(f, 50);
    suite_ok(f, register_named(f, "mine", 0, &id));
    assert_int_equal(id, worker);
    struct pgqrs_worker_info info = suite_worker_info(f, id);
    assert_int_equal(info.state, PGQRS_WORKER_READY);
    assert_int_equal(info.started_at_us, f->now_us);
    assert_int_equal(info.heartbeat_at_us, f->now_us);
    assert_int_equal(info.shutdown_at_us, 0);
}

static void a_dead_ones_name(void **state)
{
    struct suite *f = *state;
    int64_t id = 0;
    int64_t worker = suite_foreign_worker(f, "mine", f->queue);
    int64_t message = suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_for(f, f->queue, worker);
    suite_advance_ms(f, 1000);
    suite_fails(f, register_named(f, "mine", 1001, &id), PGQRS_ERR_EXISTS);
    suite_fails(f, register_named(f, "mine", 0, &id), PGQRS_ERR_EXISTS);
    suite_advance_ms(f, 2);
    suite_ok(f, register_named(f, "mine", 1001, &id));
    assert_int_equal(id, worker);
    assert_int_equal(suite_worker_info(f, id).started_at_us, f->now_us);
    assert_int_equal(suite_worker_info(f, id).held, 0);
    struct pgqrs_message m = suite_get(f, message);
    assert_int_equal(m.state, PGQRS_STATE_READY);
    assert_int_equal(m.consumer_worker_id, 0);
    pgqrs_message_fini(&m);
    suite_lease_for(f, f->queue, suite_worker(f, "w2", 2));
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_REFUSED);
}

/* Beating keeps a name. */
static void a_name_kept_by_beating(void **state)
{
    struct suite *f = *state;
    int64_t id = 0;
    int64_t worker = suite_foreign_worker(f, "mine", f->queue);
    for (int i = 0; i < 5; i++) {
        suite_advance_ms(f, 900);
        suite_ok(f, pgqrs_store_worker_beat(f->store, &worker, 1, &f->err));
        assert_int_equal(suite_worker_info(f, worker).heartbeat_at_us, f->now_us);
    }
    suite_fails(f, register_named(f, "mine", 1000, &id), PGQRS_ERR_EXISTS);
}

static void beats_reach_all_that_are_there(void **state)
{
    struct suite *f = *state;
    int64_t w2 = suite_worker(f, "w2", 2);
    suite_advance_ms(f, 70);
    const int64_t ids[3] = {f->worker, 4711, w2};
    suite_fails(f, pgqrs_store_worker_beat(f->store, ids, 3, &f->err), PGQRS_ERR_NOT_FOUND);
    assert_int_equal(suite_worker_info(f, f->worker).heartbeat_at_us, f->now_us);
    assert_int_equal(suite_worker_info(f, w2).heartbeat_at_us, f->now_us);
}

const struct CMUnitTest suite_worker_state_cases[] = {
    SUITE_CASE(every_move_from_every_state),
    SUITE_CASE(moving_what_is_not_there),
    SUITE_CASE(state_names),
    SUITE_CASE(only_the_awake_are_given_work),
    SUITE_CASE(suspended_while_it_works),
    SUITE_CASE(shutting_down_while_it_holds),
    SUITE_CASE(stopping_frees_what_it_holds),
    SUITE_CASE(names_made_up),
    SUITE_CASE(a_name_in_use),
    SUITE_CASE(a_dead_ones_name),
    SUITE_CASE(a_name_kept_by_beating),
    SUITE_CASE(beats_reach_all_that_are_there),
};
const size_t suite_worker_state_count =
    sizeof suite_worker_state_cases / sizeof *suite_worker_state_cases;
