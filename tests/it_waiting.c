/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that wait for messages through the broker of a real pgqrsd. Neither they nor the broker
 * look by themselves: what they get, they were woken for.
 */
#include "tests/support/world.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "include/pgqrs/pgqrs.h"

#define NEVER_MS 3600000

struct waiter {
    char dsn[128];
    pthread_t thread;
    atomic_int got;
    int wanted;
    char trouble[256];
};

static bool is_passing(const struct pgqrs_failure *why)
{
    return why->code == PGQRS_E_AGAIN || why->code == PGQRS_E_UNKNOWN;
}

/* True: it got one and is rid of it. */
static bool take_one(struct pgqrs_consumer *consumer, struct pgqrs_failure *why)
{
    struct pgqrs_batch *batch = NULL;
    int rc = pgqrs_dequeue(consumer, 1, NEVER_MS, &batch, why);
    bool took = rc == 1 && pgqrs_delivery_ack(consumer, batch->items, NULL, why) == 0;
    if (rc == 1) {
        pgqrs_batch_free(batch);
    }
    return took;
}

static void *wait_for_messages(void *arg)
{
    struct waiter *w = arg;
    const struct pgqrs_consumer_options options = {
        .queue = "mine", .beat_ms = NEVER_MS, .poll_ms = NEVER_MS};
    struct pgqrs_failure why = {0};
    struct pgqrs_client *client = NULL;
    struct pgqrs_consumer *consumer = NULL;
    bool good = pgqrs_connect(w->dsn, NULL, &client, &why) == 0 &&
                pgqrs_consumer_register(client, &options, &consumer, &why) == 0;
    while (good && atomic_load(&w->got) < w->wanted) {
        if (take_one(consumer, &why)) {
            atomic_fetch_add(&w->got, 1);
        } else if (!is_passing(&why) || pgqrs_consumer_recover(consumer, NULL, 0, &why) < 0) {
            good = is_passing(&why);
        }
    }
    if (!good) {
        (void)snprintf(w->trouble, sizeof w->trouble, "%s", why.text);
    }
    pgqrs_consumer_free(&consumer);
    pgqrs_disconnect(&client);
    return NULL;
}

static void start(struct world *world, struct waiter *w, int wanted)
{
    struct fixture *f = world->f;
    daemon_config(&f->scratch, "poll: 1h\nqueues: {work: {handler: %s, settings: {file: %s}}}\n",
                  built("tests/handlers/effect.so"), f->scratch.effects);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 2);
    cli_ok(&f->scratch, NULL, "queue", "create", "mine");
    (void)snprintf(w->dsn, sizeof w->dsn, "broker:%s/run/pgqrsd.sock", f->scratch.dir);
    w->wanted = wanted;
    atomic_store(&w->got, 0);
    assert_int_equal(pthread_create(&w->thread, NULL, wait_for_messages, w), 0);
}

/* The last step before it waits is that its row says so. */
static void await_waiting(const struct world *world)
{
    world_await(world, "select count(*) from pgqrs_workers where status = 'polling'", 1);
}

struct progress {
    const struct waiter *waiter;
    int count;
};

static bool is_there(const void *arg)
{
    const struct progress *p = arg;
    return atomic_load(&p->waiter->got) >= p->count || p->waiter->trouble[0] != 0;
}

static void await_message(const struct waiter *w, int count)
{
    if (!wait_for(is_there, &(struct progress){w, count}, WAIT_MS) || w->trouble[0] != 0) {
        fail_msg("message %d: %s", count, w->trouble);
    }
}

static void finish(struct world *world, struct waiter *w)
{
    (void)pthread_join(w->thread, NULL);
    assert_string_equal(w->trouble, "");
    assert_int_equal(daemon_stop(&world->f->daemon, SIGTERM), 0);
}

/* By another program, by one through the same broker, by a job, by one that is given back. */
static void test_whoever_enqueues_wakes(void **state)
{
    struct world *world = *state;
    const struct scratch *s = &world->f->scratch;
    static struct waiter w; /* for its thread, however the test ends */
    int count = 0;
    start(world, &w, 12);
    while (count < w.wanted) {
        await_waiting(world);
        cli_ok(s, NULL, "message", "enqueue", "mine", "{}");
        await_message(&w, ++count);
        await_waiting(world);
        cli_ok(s, NULL, "--dsn", w.dsn, "message", "enqueue", "mine", "{}");
        await_message(&w, ++count);
        cli_ok(s, NULL, "message", "enqueue", "work", "{\"then\":\"mine\"}");
        await_message(&w, ++count);
    }
    finish(world, &w);
}

static void test_a_new_broker_wakes_as_well(void **state)
{
    struct world *world = *state;
    struct fixture *f = world->f;
    static struct waiter w; /* for its thread, however the test ends */
    start(world, &w, 3);
    for (int i = 1; i <= w.wanted; i++) {
        await_waiting(world);
        assert_int_equal(kill(daemon_await_children(&f->daemon, "pgqrs-broker", 1), SIGKILL), 0);
        daemon_await_log(&f->daemon, "broker: ready pid=", 1 + i);
        cli_ok(&f->scratch, NULL, "message", "enqueue", "mine", "{}");
        await_message(&w, i);
    }
    finish(world, &w);
}

int main(void)
{
#define BOTH(test)                                                                                 \
    {#test "_sqlite", test, world_sqlite_setup, world_sqlite_teardown, NULL},                      \
    {                                                                                              \
#test "_postgres", test, world_pg_setup, world_pg_teardown, NULL                           \
    }
    const struct CMUnitTest tests[] = {
        BOTH(test_whoever_enqueues_wakes),
        BOTH(test_a_new_broker_wakes_as_well),
    };
    return cmocka_run_group_tests_name("clients that wait", tests, NULL, NULL);
}
