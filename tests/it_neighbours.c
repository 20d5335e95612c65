/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One daemon whose workers get into every kind of trouble at a time: each is recovered as its queue
 * says, and takes nothing from its neighbours but what it would have done itself.
 *
 * Jobs sleep, so that what a queue can do is a matter of its workers and not of the machine.
 */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/daemon.h"

#define WINDOW_MS 1500
#define SHARE_MIN                                                                                  \
    0.7 /* of what the workers that are left could do; less: somebody was in the way */

struct neighbour {
    const char *queue;
    int jobs;    /* naps, enough for both windows */
    double left; /* of its workers, while one is in trouble */
};

static const struct neighbour neighbours[] = {
    {.queue = "calm", .jobs = 700, .left = 1},
    {.queue = "spin", .jobs = 300, .left = 0.5},
    {.queue = "stop", .jobs = 300, .left = 0.5},
    {.queue = "deadlock", .jobs = 300, .left = 0.5},
};
#define NEIGHBOURS (sizeof neighbours / sizeof *neighbours)

static void start(struct fixture *f)
{
    const char *handler = built("tests/handlers/neighbour.so");
    const char *file = f->scratch.effects;
    scratch_write(&f->scratch, "pgqrsd.yaml",
                  "dsn: %s\n"
                  "runtime_dir: %s/run\n"
                  "heartbeat: {interval: 200ms, timeout: 4s}\n"
                  "queues:\n"
                  "  calm: {handler: %s, settings: {file: %s}, consumers: 4, prefetch: 2}\n"
                  "  spin: {handler: %s, settings: {file: %s}, consumers: 2, prefetch: 2,\n"
                  "    timeout: 4s, cancel_grace: 100ms, retry: {base: 1ms}}\n"
                  "  stop: {handler: %s, settings: {file: %s}, consumers: 2, prefetch: 2,\n"
                  "    retry: {base: 1ms}}\n"
                  "  deadlock: {handler: %s, settings: {file: %s}, consumers: 2, prefetch: 2,\n"
                  "    timeout: 4s, cancel_grace: 0, retry: {base: 1ms}}\n"
                  "  leak: {handler: %s, settings: {file: %s}, consumers: 1,\n"
                  "    recycle: {memory: 64MiB}}\n"
                  "  crash: {handler: %s, settings: {file: %s}, consumers: 1,\n"
                  "    on_crash: 2, retry: {base: 1ms}}\n",
                  f->scratch.dsn, f->scratch.dir, handler, file, handler, file, handler, file,
                  handler, file, handler, file, handler, file);
    daemon_start(&f->daemon, &f->scratch);
    daemon_await_log(&f->daemon, "ready pid=", 1 + 4 + 2 + 2 + 2 + 1 + 1);
}

static void add(const struct fixture *f, const char *queue, const char *what, int count,
                const char *priority)
{
    size_t size = strlen(what) + 4;
    char *lines = calloc((size_t)count, size);
    size_t len = 0;
    assert_non_null(lines);
    for (int i = 0; i < count; i++) {
        len += (size_t)snprintf(lines + len, size, "\"%s\"\n", what);
    }
    cli_ok(&f->scratch, lines, "message", "enqueue", queue, "-", "--priority", priority);
    free(lines);
}

static int napped(const struct fixture *f, const char *queue)
{
    char prefix[40];
    (void)snprintf(prefix, sizeof prefix, "napped %s ", queue);
    return effects_count(&f->scratch, prefix);
}

/* Naps a second of every queue from now on for a while. */
static void measure(const struct fixture *f, double *rates)
{
    int counts[NEIGHBOURS];
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        counts[i] = napped(f, neighbours[i].queue);
    }
    int64_t since = pgqrs_mono_ms();
    (void)poll(NULL, 0, WINDOW_MS);
    double seconds = (double)(pgqrs_mono_ms() - since) / 1000;
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        rates[i] = (napped(f, neighbours[i].queue) - counts[i]) / seconds;
    }
}

static void await_done(const struct fixture *f, const char *what, int count, const char *and)
{
    char sql[300];
    (void)snprintf(sql, sizeof sql,
                   "select count(*) from pgqrs_messages where pgqrsd_outcome = 'done' and"
                   " payload like '%%%s%%' and %s",
                   what, and);
    db_await(&f->scratch, sql, count);
}

static void check_recovered(const struct fixture *f)
{
    await_done(f, "spin", 1,
               "read_ct = 2 and pgqrsd_crash_ct = 0 and pgqrsd_error = 'timeout: job ' || id ||"
               " ' ran past its time limit of 4s, and did not stop within 100ms of being told'");
    await_done(f, "deadlock", 1,
               "read_ct = 2 and pgqrsd_crash_ct = 0 and pgqrsd_error like 'timeout: job %'");
    await_done(f, "stop", 1,
               "read_ct = 2 and pgqrsd_crash_ct = 1 and pgqrsd_error ="
               " 'worker killed: no heartbeat for 4000 ms'");
    db_await(&f->scratch,
             "select count(*) from pgqrs_messages where pgqrsd_outcome = 'failed' and"
             " payload like '%crash%' and read_ct = 2 and pgqrsd_crash_ct = 2 and pgqrsd_error"
             " like 'quarantined after 2 crashes: worker killed by signal 6%'",
             1);
    await_done(f, "leak", 30, "read_ct = 1");
    daemon_await_log(&f->daemon, " MiB, replacing it", 1);
}

static void test_trouble_costs_no_more_than_who_is_in_it(void **state)
{
    struct fixture *f = *state;
    double before[NEIGHBOURS];
    double during[NEIGHBOURS];
    int naps = 0;
    start(f);
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        add(f, neighbours[i].queue, "nap", neighbours[i].jobs, "0");
        naps += neighbours[i].jobs;
    }
    effects_await(&f->scratch, "nap deadlock ", 5); /* the last one works, too */
    measure(f, before);

    add(f, "spin", "spin", 1, "9");
    add(f, "stop", "stop", 1, "9");
    add(f, "deadlock", "deadlock", 1, "9");
    add(f, "crash", "crash", 1, "9");
    add(f, "leak", "leak", 30, "9");
    effects_await(&f->scratch, "spin spin 1", 1);
    effects_await(&f->scratch, "stop stop 1", 1);
    effects_await(&f->scratch, "deadlock deadlock 1", 1);
    measure(f, during);
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        print_message("%-8s naps a second: %.1f before, %.1f during\n", neighbours[i].queue,
                      before[i], during[i]);
    }
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        assert_true(during[i] >= SHARE_MIN * neighbours[i].left * before[i]);
    }
    check_recovered(f);
    await_done(f, "nap", naps, "read_ct = 1"); /* none of the others has spent an attempt */
    assert_int_equal(daemon_stop(&f->daemon, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_trouble_costs_no_more_than_who_is_in_it, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
