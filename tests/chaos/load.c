/* SPDX-License-Identifier: Apache-2.0 */
/* The producer: a thread that enqueues through libpgqrs and remembers what was acknowledged. */
#include "tests/chaos/chaos_priv.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define PAUSE_MS 15
#define RETRY_MS 20

static int make_payload(struct chaos_random *r, int64_t n, char *out, size_t size)
{
    int64_t kind = chaos_pick(r, 0, 999);
    int64_t ms = kind < 850   ? chaos_pick(r, 0, 5)
                 : kind < 950 ? chaos_pick(r, 20, 60)
                              : chaos_pick(r, 200, 500);
    int64_t word = chaos_pick(r, 0, 999);
    const char *extra = word < 200   ? ", \"then\": 1"
                        : word < 280 ? ", \"fails\": 1"
                        : word < 300 ? ", \"fails\": 3, \"then\": 1"
                        : word < 340 ? ", \"dead\": 1"
                        : word < 344 ? ", \"crash\": 1"
                        : word < 346 ? ", \"hang\": 1"
                                     : "";
    return snprintf(out, size, "{\"n\": %" PRId64 ", \"ms\": %" PRId64 "%s}", n, ms, extra);
}

static void remember(int fd, int64_t id, int64_t n)
{
    char line[64];
    int len = snprintf(line, sizeof line, "ack %" PRId64 " %" PRId64 "\n", id, n);
    if (write(fd, line, (size_t)len) != len) {
        perror("acks");
    }
}

/* The same item until it is known what became of it. */
static void enqueue(struct chaos_run_state *c, struct pgqrs_client **client, int acks,
                    const char *payload, int64_t n)
{
    const struct pgqrs_item item = pgqrs_item_of(payload);
    while (!atomic_load(&c->enough)) {
        struct pgqrs_failure why = {0};
        struct pgqrs_receipt receipt;
        if (*client == NULL) {
            *client = chaos_connect(c, &why);
        }
        if (*client != NULL && pgqrs_enqueue(*client, "work", &item, &receipt, &why) == 1) {
            remember(acks, receipt.id, n);
            return;
        }
        atomic_fetch_add(&c->refused, 1);
        if (why.code == PGQRS_E_UNKNOWN) {
            return; /* a repetition might be a second one */
        }
        if (why.code != PGQRS_E_AGAIN && why.code != PGQRS_E_UNAVAILABLE) {
            (void)fprintf(stderr, "chaos: enqueue: %s: %s\n", pgqrs_code_name(why.code), why.text);
        }
        (void)poll(NULL, 0, RETRY_MS);
    }
}

static void *produce(void *arg)
{
    struct chaos_run_state *c = arg;
    struct chaos_random random = {.state = ~c->options.seed};
    struct pgqrs_client *client = NULL;
    char path[96];
    (void)snprintf(path, sizeof path, "%s/acks", c->scratch.dir);
    int acks = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (int64_t n = 1; !atomic_load(&c->enough); n++) {
        char payload[128];
        (void)make_payload(&random, n, payload, sizeof payload);
        enqueue(c, &client, acks, payload, n);
        (void)poll(NULL, 0, PAUSE_MS);
    }
    pgqrs_disconnect(&client);
    (void)close(acks);
    return NULL;
}

void chaos_load_start(struct chaos_run_state *c)
{
    c->producing = pthread_create(&c->producer, NULL, produce, c) == 0;
}

void chaos_load_stop(struct chaos_run_state *c)
{
    if (c->producing) {
        atomic_store(&c->enough, true);
        (void)pthread_join(c->producer, NULL);
        c->producing = false;
    }
}
