/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Works on the jobs of a queue in its own process: prints each payload, until INT or TERM.
 *
 *     consumer DSN QUEUE [NAME]
 *     cc consumer.c $(pkg-config --cflags --libs pgqrs)
 */
#include <inttypes.h>
#include <pgqrs/pgqrs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t ending;

static void on_signal(int number)
{
    (void)number;
    ending = 1;
}

static int complain(const struct pgqrs_failure *why)
{
    fprintf(stderr, "consumer: %s: %s\n", pgqrs_code_name(why->code), why->text);
    return -1;
}

/* The work itself: here, printing. A string "fail" is one that can not be done. */
static int work(const struct pgqrs_delivery *job)
{
    printf("%" PRId64 " attempt %" PRIu32 ": %s\n", job->id, job->attempt, job->payload);
    return fflush(stdout) != 0 || strcmp(job->payload, "\"fail\"") == 0 ? -1 : 0;
}

static int settle(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *job, int done,
                  struct pgqrs_failure *why)
{
    return done ? pgqrs_delivery_ack(consumer, job, NULL, why)
                : pgqrs_delivery_retry(consumer, job, 1000, "it says fail", why);
}

static int do_one(struct pgqrs_consumer *consumer, const struct pgqrs_delivery *job)
{
    struct pgqrs_failure why;
    int done = work(job) == 0;
    int rc = settle(consumer, job, done, &why);
    for (int i = 0; i < 5 && rc < 0; i++) {
        if (why.code == PGQRS_E_LOST) { /* another one does it now, or our first call had worked */
            (void)complain(&why);
            return 0;
        }
        if (why.code != PGQRS_E_UNKNOWN && why.code != PGQRS_E_AGAIN) {
            break;
        }
        (void)sleep(1);
        rc = settle(consumer, job, done, &why); /* it can not be applied twice */
    }
    return rc < 0 ? complain(&why) : 0;
}

static int run(struct pgqrs_consumer *consumer)
{
    while (!ending) {
        struct pgqrs_batch *batch = NULL;
        struct pgqrs_failure why;
        int count = pgqrs_dequeue(consumer, 10, 2000, &batch, &why);
        if (count < 0) {
            (void)complain(&why);
            if (why.code == PGQRS_E_UNKNOWN) { /* some may be ours that we do not know */
                count = (int)pgqrs_consumer_recover(consumer, NULL, 0, &why);
            }
            if (count < 0 && why.code != PGQRS_E_AGAIN) {
                return -1;
            }
            (void)sleep(1); /* the database is away: it may come back */
            continue;
        }
        int rc = 0;
        for (int i = 0; rc == 0 && i < count; i++) {
            /* What is not begun on a signal goes back when we shut down. */
            rc = ending ? 0 : do_one(consumer, &batch->items[i]);
        }
        pgqrs_batch_free(batch);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct sigaction act;
    struct pgqrs_failure why;
    struct pgqrs_client *client = NULL;
    struct pgqrs_consumer *consumer = NULL;
    struct pgqrs_options options = {.listen = true};
    struct pgqrs_consumer_options how = {.stale_ms = 60000};
    if (argc < 3) {
        fprintf(stderr, "usage: consumer DSN QUEUE [NAME]\n");
        return 2;
    }
    memset(&act, 0, sizeof act);
    act.sa_handler = on_signal; /* without SA_RESTART: a wait ends at once */
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    how.queue = argv[2];
    how.name = argc > 3 ? argv[3] : NULL;
    if (pgqrs_connect(argv[1], &options, &client, &why) < 0 ||
        pgqrs_consumer_register(client, &how, &consumer, &why) < 0) {
        (void)complain(&why);
        pgqrs_disconnect(&client);
        return 1;
    }
    int rc = run(consumer);
    if (pgqrs_consumer_shutdown(&consumer, &why) < 0) {
        rc = complain(&why);
        pgqrs_consumer_free(&consumer);
    }
    pgqrs_disconnect(&client);
    return rc == 0 ? 0 : 1;
}
