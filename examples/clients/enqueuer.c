/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enqueues each line of its input, one JSON value, in batches: what is printed is stored.
 *
 *     enqueuer DSN QUEUE <lines
 *     cc enqueuer.c $(pkg-config --cflags --libs pgqrs)
 */
#include <inttypes.h>
#include <pgqrs/pgqrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 100

static int store(struct pgqrs_client *client, const char *queue, char *lines[], size_t count)
{
    struct pgqrs_item items[BATCH] = {{0}};
    struct pgqrs_receipt receipts[BATCH];
    struct pgqrs_failure why;
    for (size_t i = 0; i < count; i++) {
        items[i] = pgqrs_item_of(lines[i]);
    }
    if (pgqrs_enqueue_batch(client, queue, items, count, receipts, &why) < 0) {
        fprintf(stderr, "enqueuer: %s: %s\n", pgqrs_code_name(why.code), why.text);
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        printf("%" PRId64 "\n", receipts[i].id);
        free(lines[i]);
    }
    return 0;
}

static int run(struct pgqrs_client *client, const char *queue)
{
    char *lines[BATCH];
    size_t count = 0;
    char *line = NULL;
    size_t size = 0;
    int rc = 0;
    while (rc == 0 && getline(&line, &size, stdin) > 0) {
        lines[count++] = line;
        line = NULL;
        if (count == BATCH) {
            rc = store(client, queue, lines, count);
            count = 0;
        }
    }
    free(line);
    return rc == 0 && count > 0 ? store(client, queue, lines, count) : rc;
}

int main(int argc, char **argv)
{
    struct pgqrs_client *client = NULL;
    struct pgqrs_failure why;
    if (argc != 3) {
        fprintf(stderr, "usage: enqueuer DSN QUEUE <lines\n");
        return 2;
    }
    if (pgqrs_connect(argv[1], NULL, &client, &why) < 0) {
        fprintf(stderr, "enqueuer: %s\n", why.text);
        return 1;
    }
    int rc = run(client, argv[2]);
    pgqrs_disconnect(&client);
    return rc == 0 ? 0 : 1;
}
