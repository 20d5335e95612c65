/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_suite.h"

/* What a broker's clock does: what has ended goes, what is used up is buried, the dead are robbed.
 */

#define EXPIRED "lease expired: its worker is dead"

static int64_t end_one(struct suite *f, enum pgqrs_settle how)
{
    int64_t id = suite_put(f, "1", 0, 100);
    assert_int_equal(suite_settle(f, suite_settlement(suite_lease_one(f), how)), PGQRS_SETTLED_YES);
    return id;
}

/* Steps until the cursor is at the end; returns how many went. */
static int64_t prune_all(struct suite *f, struct pgqrs_prune prune)
{
    int64_t gone = 0;
    for (int steps = 0; steps < 100; steps++) {
        int64_t step = pgqrs_store_prune(f->store, &prune, &f->err);
        suite_ok(f, step);
        assert_true(step <= prune.limit);
        gone += step;
        if (prune.from_us == 0 && prune.from_id == 0) {
            return gone;
        }
    }
    fail_msg("prune: no end");
    return -1;
}

static void pruning_what_has_ended(void **state)
{
    struct suite *f = *state;
    int64_t done = end_one(f, PGQRS_SETTLE_ARCHIVE);
    int64_t dead = end_one(f, PGQRS_SETTLE_DEAD);
    int64_t cancelled = end_one(f, PGQRS_SETTLE_CANCEL);
    int64_t waiting = suite_put(f, "1", 0, 0);
    suite_advance_ms(f, 1000);
    int64_t fresh = end_one(f, PGQRS_SETTLE_ARCHIVE);
    struct pgqrs_prune prune = {
        .queue_id = f->queue, .what = PGQRS_PRUNE_ENDED, .age_ms = 1000, .limit = 100};
    assert_int_equal(prune_all(f, prune), 0); /* not longer ago than that */
    prune.age_ms = 999;
    assert_int_equal(prune_all(f, prune), 2);
    suite_assert_gone(f, done);
    suite_assert_gone(f, cancelled);
    suite_assert_message(f, dead, PGQRS_STATE_ARCHIVED, 1, "");
    suite_assert_message(f, waiting, PGQRS_STATE_READY, 0, "");
    suite_assert_message(f, fresh, PGQRS_STATE_ARCHIVED, 1, "");
    prune.what = PGQRS_PRUNE_FAILED;
    prune.age_ms = 1000;
    assert_int_equal(prune_all(f, prune), 0);
    prune.age_ms = 999;
    assert_int_equal(prune_all(f, prune), 1);
    suite_assert_gone(f, dead);
}

static void pruning_by_queue(void **state)
{
    struct suite *f = *state;
    int64_t other = suite_queue(f, "other");
    int64_t there = suite_put_item(f, other, (struct pgqrs_enqueue){0});
    assert_int_equal(suite_act(f, PGQRS_ACT_CANCEL, there), PGQRS_ACTED_YES);
    int64_t here = end_one(f, PGQRS_SETTLE_ARCHIVE);
    suite_advance_ms(f, 10);
    struct pgqrs_prune prune = {
        .queue_id = f->queue, .what = PGQRS_PRUNE_ENDED, .age_ms = 5, .limit = 100};
    assert_int_equal(prune_all(f, prune), 1);
    suite_assert_gone(f, here);
    suite_assert_message(f, there, PGQRS_STATE_ARCHIVED, 0, "");
    prune.queue_id = 0;
    assert_int_equal(prune_all(f, prune), 1);
    suite_assert_gone(f, there);
}

static void pruning_step_by_step(void **state)
{
    struct suite *f = *state;
    for (int kind = PGQRS_PRUNE_ENDED; kind <= PGQRS_PRUNE_FAILED; kind++) {
        bool failed = kind == PGQRS_PRUNE_FAILED;
        /* Dead letters stand between those that go, and the other way about. */
        for (int i = 0; i < 21; i++) {
            end_one(f, (i % 3 == 0) == failed ? PGQRS_SETTLE_ARCHIVE : PGQRS_SETTLE_DEAD);
            suite_advance_ms(f, i % 2);
        }
        suite_advance_ms(f, 100);
        const struct pgqrs_prune prune = {
            .queue_id = kind == PGQRS_PRUNE_ENDED ? f->queue : 0,
            .what = (enum pgqrs_prune_what)kind,
            .age_ms = 50,
            .limit = 2,
        };
        int64_t gone = prune_all(f, prune);
        assert_int_equal(gone, failed ? 14 + 7 : 14);
        assert_int_equal(prune_all(f, prune), 0);
    }
}

static void prune_is_checked(void **state)
{
    struct suite *f = *state;
    const struct pgqrs_prune bad[] = {
        {.what = PGQRS_PRUNE_NONE, .limit = 1},
        {.what = PGQRS_PRUNE_ENDED, .limit = 0},
        {.what = PGQRS_PRUNE_ENDED, .limit = 10001},
        {.what = PGQRS_PRUNE_ENDED, .limit = 1, .age_ms = -1},
        {.what = (enum pgqrs_prune_what)3, .limit = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct pgqrs_prune prune = bad[i];
        suite_fails(f, pgqrs_store_prune(f->store, &prune, &f->err), PGQRS_ERR_INVALID);
    }
    struct pgqrs_prune forever = {.what = PGQRS_PRUNE_ENDED, .limit = 1, .age_ms = INT64_MAX};
    end_one(f, PGQRS_SETTLE_ARCHIVE);
    assert_int_equal(pgqrs_store_prune(f->store, &forever, &f->err), 0);
}

static void unfinished_runs_keep_their_messages(void **state)
{
    struct suite *f = *state;
    static const struct {
        const char *status;
        bool finished;
    } runs[] = {{"QUEUED", false}, {"RUNNING", false}, {"PAUSED", false},
                {"SUCCESS", true}, {"ERROR", true},    {"CANCELLED", true}};
    int64_t ids[6];
    suite_sql(f, "INSERT INTO pgqrs_workflows (name, queue_id) VALUES ('flow', %" PRId64 ")",
              f->queue);
    for (size_t i = 0; i < 6; i++) {
        ids[i] = end_one(f, PGQRS_SETTLE_ARCHIVE);
        suite_sql(f,
                  "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status)"
                  " SELECT id, %" PRId64 ", '%s' FROM pgqrs_workflows",
                  ids[i], runs[i].status);
    }
    suite_advance_ms(f, 10);
    const struct pgqrs_prune prune = {
        .queue_id = f->queue, .what = PGQRS_PRUNE_ENDED, .age_ms = 5, .limit = 2};
    assert_int_equal(prune_all(f, prune), 3);
    for (size_t i = 0; i < 6; i++) {
        if (runs[i].finished) {
            suite_assert_gone(f, ids[i]);
        } else {
            suite_assert_message(f, ids[i], PGQRS_STATE_ARCHIVED, 1, "");
        }
    }
    assert_int_equal(prune_all(f, prune), 0);
}

/* ---- burying ---- */

static void used_up_ones_are_buried(void **state)
{
    struct suite *f = *state;
    int64_t silent = suite_put(f, "1", 0, 3);
    int64_t loud = suite_put(f, "2", 0, 2);
    int64_t fresh = suite_put(f, "3", 0, 1);
    int64_t held = suite_put(f, "4", 0, 9);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(suite_lease(f, 4), 4);
        struct pgqrs_lease_ref refs[4];
        for (size_t k = 0; k < 4; k++) {
            refs[k] = (struct pgqrs_lease_ref){.message_id = f->x.leases[k].message_id,
                                               .worker_id = f->worker,
                                               .attempt = f->x.leases[k].attempt};
        }
        for (size_t k = 0; k < 4; k++) {
            struct pgqrs_settlement item = suite_settlement(
                refs[k], refs[k].message_id == fresh ? PGQRS_SETTLE_RETURN : PGQRS_SETTLE_RETRY);
            item.error = pgqrs_bytes_from(refs[k].message_id == loud ? "it hurt" : "");
            assert_int_equal(suite_settle(f, item), PGQRS_SETTLED_YES);
        }
    }
    assert_int_equal(suite_lease(f, 1), 1); /* the one with the highest priority, its third */
    assert_int_equal(pgqrs_store_bury(f->store, f->queue, 3, &f->err), 0);
    suite_advance_ms(f, 4);
    assert_int_equal(pgqrs_store_bury(f->store, f->queue, 2, &f->err), 2);
    assert_int_equal(pgqrs_store_bury(f->store, f->queue, 2, &f->err), 0);
    suite_assert_message(f, loud, PGQRS_STATE_ARCHIVED, 2, "it hurt");
    struct pgqrs_message m = suite_get(f, silent);
    assert_string_equal(m.outcome, "failed");
    assert_int_equal(m.archived_at_us, f->now_us);
    assert_non_null(strstr(m.error, "attempts"));
    pgqrs_message_fini(&m);
    suite_assert_message(f, fresh, PGQRS_STATE_READY, 0, "");
    suite_assert_message(f, held, PGQRS_STATE_LEASED, 3, "");
    suite_fails(f, pgqrs_store_bury(f->store, f->queue, 0, &f->err), PGQRS_ERR_INVALID);
}

static void burying_stays_in_its_queue(void **state)
{
    struct suite *f = *state;
    int64_t other = suite_queue(f, "other");
    int64_t there = suite_put_item(f, other, (struct pgqrs_enqueue){0});
    struct pgqrs_lease_ref lease = suite_lease_for(f, other, f->worker);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_RETRY)),
                     PGQRS_SETTLED_YES);
    assert_int_equal(pgqrs_store_bury(f->store, f->queue, 1, &f->err), 0);
    assert_int_equal(pgqrs_store_bury(f->store, other, 1, &f->err), 1);
    struct pgqrs_message m = suite_get(f, there);
    assert_int_equal(m.state, PGQRS_STATE_ARCHIVED);
    pgqrs_message_fini(&m);
}

/* ---- reaping ---- */

static int64_t reap(struct suite *f, int64_t stale_ms, bool foreign)
{
    const struct pgqrs_reap step = {.stale_ms = stale_ms, .foreign = foreign, .limit = 100};
    int64_t freed = pgqrs_store_reap(f->store, &step, &f->err);
    suite_ok(f, freed);
    return freed;
}

static void the_dead_are_robbed(void **state)
{
    struct suite *f = *state;
    int64_t ids[2] = {suite_put(f, "1", 0, 0), suite_put(f, "2", 0, 0)};
    assert_int_equal(suite_lease(f, 2), 2);
    const struct pgqrs_lease_ref old = {.message_id = ids[0], .worker_id = f->worker, .attempt = 1};
    suite_advance_ms(f, SUITE_LEASE_MS + 60000);
    assert_int_equal(reap(f, SUITE_LEASE_MS + 60000, false), 0); /* not longer than that */
    assert_int_equal(reap(f, SUITE_LEASE_MS + 59999, false), 2);
    for (int i = 0; i < 2; i++) {
        suite_assert_message(f, ids[i], PGQRS_STATE_READY, 1, EXPIRED);
        struct pgqrs_message m = suite_get(f, ids[i]);
        assert_int_equal(m.vt_us, f->now_us);
        assert_int_equal(m.consumer_worker_id, 0);
        pgqrs_message_fini(&m);
    }
    struct pgqrs_worker_info worker = suite_worker_info(f, f->worker);
    assert_int_equal(worker.state, PGQRS_WORKER_STOPPED);
    assert_int_equal(worker.shutdown_at_us, f->now_us);
    assert_int_equal(suite_settle(f, suite_settlement(old, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_REFUSED);
    assert_int_equal(suite_lease(f, 2), 0);
    f->worker = suite_worker(f, "w2", 2);
    assert_int_equal(suite_lease_one(f).attempt, 2);
}

static void the_living_are_not(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_one(f);
    /* Beats, though its lease has passed. */
    suite_advance_ms(f, SUITE_LEASE_MS * 2);
    suite_ok(f, pgqrs_store_worker_beat(f->store, &f->worker, 1, &f->err));
    suite_advance_ms(f, 500);
    assert_int_equal(reap(f, 1000, true), 0);
    suite_assert_message(f, id, PGQRS_STATE_LEASED, 1, "");
    /* Does not beat, though its lease holds. */
    assert_int_equal(pgqrs_store_renew(f->store, &lease, 1, SUITE_LEASE_MS, NULL, &f->err), 1);
    suite_advance_ms(f, 2000);
    assert_int_equal(reap(f, 1000, true), 0);
    suite_assert_message(f, id, PGQRS_STATE_LEASED, 1, "");
    assert_int_equal(suite_worker_info(f, f->worker).state, PGQRS_WORKER_READY);
    suite_advance_ms(f, SUITE_LEASE_MS);
    assert_int_equal(reap(f, 1000, false), 1);
}

static void others_are_left_alone_unless_asked(void **state)
{
    struct suite *f = *state;
    int64_t theirs = suite_foreign_worker(f, "theirs", f->queue);
    int64_t id = suite_put(f, "1", 0, 0);
    struct pgqrs_lease_ref lease = suite_lease_for(f, f->queue, theirs);
    suite_advance_ms(f, SUITE_LEASE_MS * 3);
    assert_int_equal(reap(f, 1000, false), 0);
    suite_assert_message(f, id, PGQRS_STATE_LEASED, 1, "");
    assert_int_equal(suite_worker_info(f, theirs).state, PGQRS_WORKER_READY);
    assert_int_equal(suite_worker_info(f, f->worker).state, PGQRS_WORKER_STOPPED);
    assert_int_equal(reap(f, 1000, true), 1);
    suite_assert_message(f, id, PGQRS_STATE_READY, 1, EXPIRED);
    assert_int_equal(suite_worker_info(f, theirs).state, PGQRS_WORKER_STOPPED);
    assert_int_equal(suite_settle(f, suite_settlement(lease, PGQRS_SETTLE_ARCHIVE)),
                     PGQRS_SETTLED_REFUSED);
}

/* Suspended and interrupted workers that do not beat are as dead as others. */
static void every_waking_state_can_be_dead(void **state)
{
    struct suite *f = *state;
    static const enum pgqrs_worker_move moves[] = {PGQRS_MOVE_POLL, PGQRS_MOVE_INTERRUPT,
                                                   PGQRS_MOVE_SUSPEND};
    int64_t ids[3];
    for (int i = 0; i < 3; i++) {
        const char *const names[] = {"a", "b", "c"};
        ids[i] = suite_worker(f, names[i], 5);
        suite_put(f, "1", 0, 0);
        suite_lease_for(f, f->queue, ids[i]);
        suite_ok(f, pgqrs_store_worker_move(f->store, ids[i], moves[i], &f->err));
    }
    suite_advance_ms(f, SUITE_LEASE_MS + 1);
    assert_int_equal(reap(f, 1000, false), 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(suite_worker_info(f, ids[i]).state, PGQRS_WORKER_STOPPED);
    }
}

/* A client of pgqrs stops without giving back what it holds. */
static void the_stopped_are_robbed_too(void **state)
{
    struct suite *f = *state;
    int64_t id = suite_put(f, "1", 0, 0);
    suite_lease_one(f);
    suite_sql(f, "UPDATE pgqrs_workers SET status = 'stopped' WHERE id = %" PRId64, f->worker);
    suite_advance_ms(f, SUITE_LEASE_MS - 1);
    assert_int_equal(reap(f, SUITE_LEASE_MS * 10, false), 0);
    suite_advance_ms(f, 1);
    assert_int_equal(reap(f, SUITE_LEASE_MS * 10, false), 1);
    suite_assert_message(f, id, PGQRS_STATE_READY, 1, EXPIRED);
}

/* Dead, but one of its leases has not passed: it stays until that has. */
static void reaped_as_the_leases_pass(void **state)
{
    struct suite *f = *state;
    int64_t passed = suite_put(f, "1", 0, 1);
    int64_t holds = suite_put(f, "2", 0, 0);
    suite_lease_one(f);
    suite_advance_ms(f, SUITE_LEASE_MS / 2);
    suite_lease_one(f);
    suite_advance_ms(f, SUITE_LEASE_MS / 2);
    assert_int_equal(reap(f, 1000, false), 1);
    suite_assert_message(f, passed, PGQRS_STATE_READY, 1, EXPIRED);
    suite_assert_message(f, holds, PGQRS_STATE_LEASED, 1, "");
    assert_int_equal(suite_worker_info(f, f->worker).state, PGQRS_WORKER_READY);
    suite_advance_ms(f, SUITE_LEASE_MS / 2);
    assert_int_equal(reap(f, 1000, false), 1);
    assert_int_equal(suite_worker_info(f, f->worker).state, PGQRS_WORKER_STOPPED);
}

static void reaping_in_steps_and_by_queue(void **state)
{
    struct suite *f = *state;
    int64_t other = suite_queue(f, "other");
    for (int i = 0; i < 5; i++) {
        suite_put(f, "1", 0, 0);
    }
    suite_put_item(f, other, (struct pgqrs_enqueue){0});
    assert_int_equal(suite_lease(f, 5), 5);
    suite_lease_for(f, other, f->worker);
    suite_advance_ms(f, SUITE_LEASE_MS + 1);
    struct pgqrs_reap step = {.queue_id = f->queue, .stale_ms = 1000, .limit = 2};
    const int64_t freed[] = {2, 2, 1, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pgqrs_store_reap(f->store, &step, &f->err), freed[i]);
    }
    assert_int_equal(suite_worker_info(f, f->worker).held, 1);
    assert_int_equal(suite_worker_info(f, f->worker).state, PGQRS_WORKER_READY);
    step.queue_id = other;
    assert_int_equal(pgqrs_store_reap(f->store, &step, &f->err), 1);
    step.limit = 0;
    suite_fails(f, pgqrs_store_reap(f->store, &step, &f->err), PGQRS_ERR_INVALID);
    step.limit = 1;
    step.stale_ms = 0;
    suite_fails(f, pgqrs_store_reap(f->store, &step, &f->err), PGQRS_ERR_INVALID);
}

const struct CMUnitTest suite_housekeeping_cases[] = {
    SUITE_CASE(pruning_what_has_ended),
    SUITE_CASE(pruning_by_queue),
    SUITE_CASE(pruning_step_by_step),
    SUITE_CASE(prune_is_checked),
    SUITE_CASE(unfinished_runs_keep_their_messages),
    SUITE_CASE(used_up_ones_are_buried),
    SUITE_CASE(burying_stays_in_its_queue),
    SUITE_CASE(the_dead_are_robbed),
    SUITE_CASE(the_living_are_not),
    SUITE_CASE(others_are_left_alone_unless_asked),
    SUITE_CASE(every_waking_state_can_be_dead),
    SUITE_CASE(the_stopped_are_robbed_too),
    SUITE_CASE(reaped_as_the_leases_pass),
    SUITE_CASE(reaping_in_steps_and_by_queue),
};
const size_t suite_housekeeping_count =
    sizeof suite_housekeeping_cases / sizeof *suite_housekeeping_cases;
