/* SPDX-License-Identifier: Apache-2.0 */
/* pgqrs message enqueue: one payload, or lines of them in batches. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/input.h"
#include "cli/line_reader.h"
#include "cli/output.h"
#include "store/payload.h"

#define BATCH_DEFAULT 1000
#define BATCH_MAX 100000
#define BATCH_BYTES_MAX (32u * 1024 * 1024) /* a batch that grew past it is enqueued early */
#define KEY_MAX 255
#define EXCERPT 40 /* bytes of what was found */

struct producer {
    struct pgqrs_cli *cli;
    int64_t queue_id;
    struct pgqrs_enqueue common; /* delay and priority of all */
    const char *wrap;            /* null: payloads are JSON */
    size_t batch;
    struct pgqrs_enqueue *items; /* payload.data is null: they are in bytes, one after another */
    int64_t *ids;
    bool existed; /* the one with a unique key */
    size_t count;
    struct pgqrs_buf bytes; /* payloads of the batch */
    struct pgqrs_buf wrapped, payload;
    struct pgqrs_json json;
    uint64_t done; /* jobs enqueued */
};

/* ---- one payload ---- */

static int wrap(struct producer *p, struct pgqrs_bytes text, struct pgqrs_error *err)
{
    if (!pgqrs_utf8_is_valid(text) || (text.len > 0 && memchr(text.data, 0, text.len) != NULL)) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "bytes that are not UTF-8, expected text");
    }
    pgqrs_buf_clear(&p->wrapped);
    pgqrs_buf_put_u8(&p->wrapped, '{');
    pgqrs_json_quote(&p->wrapped, pgqrs_bytes_from(p->wrap));
    pgqrs_buf_put_u8(&p->wrapped, ':');
    pgqrs_json_quote(&p->wrapped, text);
    pgqrs_buf_put_u8(&p->wrapped, '}');
    return p->wrapped.failed ? pgqrs_error_memory(err) : 0;
}

/* Adds a payload to the batch. */
static int add(struct producer *p, struct pgqrs_bytes text, struct pgqrs_error *err)
{
    char excerpt[EXCERPT + 1];
    (void)snprintf(excerpt, sizeof excerpt, "%.*s", (int)(text.len < EXCERPT ? text.len : EXCERPT),
                   text.len > 0 ? text.data : "");
    if (p->wrap != NULL) {
        if (wrap(p, text, err) < 0) {
            return pgqrs_error_prefix(err, "found \"%s\"", excerpt);
        }
        text = (struct pgqrs_bytes){.data = (const char *)p->wrapped.data, .len = p->wrapped.len};
    }
    if (pgqrs_payload_normalise(text, &p->payload, err) < 0) {
        return pgqrs_error_prefix(err, "found \"%s\"", excerpt);
    }
    pgqrs_buf_put(&p->bytes, p->payload.data, p->payload.len);
    if (p->bytes.failed) {
        return pgqrs_error_memory(err);
    }
    struct pgqrs_enqueue *item = &p->items[p->count++];
    *item = p->common;
    item->payload.len = p->payload.len;
    return 0;
}

/* ---- a batch ---- */

static void print_ids(struct producer *p)
{
    for (size_t i = 0; p->cli->json && i < p->count; i++) {
        if (p->common.unique_key == NULL) {
            pgqrs_json_integer(&p->json, NULL, p->ids[i]);
            continue;
        }
        pgqrs_json_begin(&p->json, NULL, '{');
        pgqrs_json_integer(&p->json, "id", p->ids[i]);
        pgqrs_json_boolean(&p->json, "existed", p->existed);
        pgqrs_json_end(&p->json, '}');
    }
}

static int send_batch(struct producer *p)
{
    struct pgqrs_cli_retry retry = {0};
    struct pgqrs_error err;
    const char *data = (const char *)p->bytes.data; /* it does not move any more */
    int rc;
    for (size_t i = 0; i < p->count; i++) {
        p->items[i].payload.data = data;
        data += p->items[i].payload.len;
    }
    do {
        rc = pgqrs_store_enqueue(p->cli->store, p->queue_id, p->items, p->count, p->ids,
                                 p->common.unique_key != NULL ? &p->existed : NULL, &err);
    } while (rc < 0 && pgqrs_cli_again(&retry, &err));
    if (rc < 0) {
        if (p->done > 0) {
            (void)pgqrs_error_prefix(&err, "after %" PRIu64 " jobs were enqueued", p->done);
        }
        if (err.code == PGQRS_ERR_UNKNOWN) {
            (void)pgqrs_error_prefix(&err, "it is unknown whether %zu jobs were enqueued",
                                     p->count);
        }
        return pgqrs_cli_fail(&err);
    }
    print_ids(p);
    p->done += p->count;
    p->count = 0;
    pgqrs_buf_clear(&p->bytes);
    return PGQRS_CLI_OK;
}

/* ---- where payloads come from ---- */

static int bad_line(const struct producer *p, uint64_t number, const struct pgqrs_error *err)
{
    pgqrs_cli_error("standard input, line %" PRIu64 ": %s", number, err->text);
    if (p->done > 0) {
        pgqrs_cli_error("%" PRIu64 " jobs were enqueued before it; of its batch, none", p->done);
    } else {
        pgqrs_cli_error("nothing was enqueued");
    }
    return PGQRS_CLI_FAILURE;
}

static bool is_empty(const struct producer *p, struct pgqrs_bytes line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (p->wrap != NULL || strchr(" \t\r", line.data[i]) == NULL || line.data[i] == 0) {
            return false;
        }
    }
    return true;
}

static int enqueue_lines(struct producer *p)
{
    struct pgqrs_line_reader *reader = calloc(1, sizeof *reader);
    struct pgqrs_buf line = {0};
    struct pgqrs_error err;
    int status = PGQRS_CLI_OK;
    int got = 1;
    if (reader == NULL) {
        pgqrs_cli_error("out of memory");
        return PGQRS_CLI_FAILURE;
    }
    while (status == PGQRS_CLI_OK && got > 0) {
        got = pgqrs_line_read(reader, PGQRS_INPUT_MAX, &line, &err);
        const struct pgqrs_bytes text = {.data = (const char *)line.data, .len = line.len};
        if (got < 0 || (got > 0 && !is_empty(p, text) && add(p, text, &err) < 0)) {
            status = bad_line(p, reader->number + (got < 0 && err.code == PGQRS_ERR_FAILED), &err);
        } else if (p->count > 0 &&
                   (got == 0 || p->count == p->batch || p->bytes.len > BATCH_BYTES_MAX)) {
            status = send_batch(p);
        }
    }
    pgqrs_buf_fini(&line);
    free(reader);
    return status;
}

/* source: the payload itself, or @FILE. */
static int enqueue_one(struct producer *p, const char *source)
{
    struct pgqrs_buf file = {0};
    struct pgqrs_bytes text = pgqrs_bytes_from(source);
    struct pgqrs_error err;
    int rc = 0;
    if (source[0] == '@') {
        rc = pgqrs_input_read(source + 1, &file, &err);
        text = (struct pgqrs_bytes){.data = (const char *)file.data, .len = file.len};
    }
    if (rc == 0) {
        rc = add(p, text, &err);
    }
    pgqrs_buf_fini(&file);
    if (rc < 0) {
        if (source[0] == '@') {
            (void)pgqrs_error_prefix(&err, "%s", source + 1);
        }
        return pgqrs_cli_fail(&err);
    }
    return send_batch(p);
}

/* ---- the command ---- */

static int parse_key(struct pgqrs_cli *cli, struct producer *p)
{
    const char *key = cli->options[PGQRS_OPT_UNIQUE_KEY];
    if (key == NULL) {
        return PGQRS_CLI_OK;
    }
    if (*key == 0 || strlen(key) > KEY_MAX || !pgqrs_utf8_is_valid(pgqrs_bytes_from(key))) {
        return pgqrs_cli_usage("--unique-key: found %zu bytes, expected 1 to %d of UTF-8 text",
                               strlen(key), KEY_MAX);
    }
    if (strcmp(cli->words[1], "-") == 0) {
        return pgqrs_cli_usage("--unique-key: found payloads on standard input, expected one "
                               "payload");
    }
    p->common.unique_key = key;
    return PGQRS_CLI_OK;
}

static int parse(struct pgqrs_cli *cli, struct producer *p)
{
    int64_t delay_ms;
    int64_t priority;
    int64_t batch;
    if (pgqrs_cli_duration(cli, PGQRS_OPT_DELAY, 0, &delay_ms) < 0 ||
        pgqrs_cli_integer(cli, PGQRS_OPT_PRIORITY, INT32_MIN, INT32_MAX, 0, &priority) < 0 ||
        pgqrs_cli_integer(cli, PGQRS_OPT_BATCH, 1, BATCH_MAX, BATCH_DEFAULT, &batch) < 0 ||
        pgqrs_cli_time(cli, PGQRS_OPT_AT, &p->common.at_us) < 0) {
        return PGQRS_CLI_USAGE;
    }
    if (p->common.at_us != 0 && cli->options[PGQRS_OPT_DELAY] != NULL) {
        return pgqrs_cli_usage("found --at and --delay, expected one of them");
    }
    p->wrap = cli->options[PGQRS_OPT_WRAP];
    if (p->wrap != NULL && (*p->wrap == 0 || !pgqrs_utf8_is_valid(pgqrs_bytes_from(p->wrap)))) {
        return pgqrs_cli_usage("--wrap: found \"%s\", expected a key of UTF-8 text", p->wrap);
    }
    p->common.delay_ms = delay_ms;
    p->common.priority = (int32_t)priority;
    p->batch = (size_t)batch;
    return parse_key(cli, p);
}

static int enqueue(struct producer *p, const char *source)
{
    p->items = calloc(p->batch, sizeof *p->items);
    p->ids = calloc(p->batch, sizeof *p->ids);
    if (p->items == NULL || p->ids == NULL) {
        pgqrs_cli_error("out of memory");
        return PGQRS_CLI_FAILURE;
    }
    if (p->cli->json) {
        pgqrs_json_begin(&p->json, NULL, '[');
    }
    int status = strcmp(source, "-") == 0 ? enqueue_lines(p) : enqueue_one(p, source);
    if (p->cli->json) {
        pgqrs_json_end(&p->json, ']');
    } else if (status == PGQRS_CLI_OK && p->existed) {
        (void)printf("nothing enqueued, job %" PRId64 " has this unique key already\n", p->ids[0]);
    } else if (status == PGQRS_CLI_OK && p->done == 1) {
        (void)printf("1 job enqueued, id %" PRId64 "\n", p->ids[0]);
    } else if (status == PGQRS_CLI_OK) {
        (void)printf("%" PRIu64 " jobs enqueued\n", p->done);
    }
    return status;
}

int pgqrs_cmd_message_enqueue(struct pgqrs_cli *cli)
{
    struct producer p = {.cli = cli};
    int status = parse(cli, &p);
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_open(cli);
    }
    if (status == PGQRS_CLI_OK) {
        status = pgqrs_cli_find_queue(cli, cli->words[0], &p.queue_id);
    }
    if (status == PGQRS_CLI_OK) {
        status = enqueue(&p, cli->words[1]);
    }
    free(p.items);
    free(p.ids);
    pgqrs_buf_fini(&p.bytes);
    pgqrs_buf_fini(&p.wrapped);
    pgqrs_buf_fini(&p.payload);
    return status;
}
