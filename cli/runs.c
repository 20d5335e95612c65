/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/runs.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include <jansson.h>

#include "base/clock.h"

#define PAGE_MAX 1000
#define LOOK_FIRST_MS 20
#define LOOK_EVERY_MS 500
#define SECOND_US INT64_C(1000000)

/* ---- looking ---- */

int pgqrs_run_look(struct pgqrs_cli *cli, int64_t id, struct pgqrs_run_list *one_out)
{
    struct pgqrs_error err;
    int rc;
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_look(cli->store, id, one_out, &err));
    return rc < 0 ? pgqrs_cli_fail(&err) : PGQRS_CLI_OK;
}

int pgqrs_run_wait_option(const struct pgqrs_cli *cli, int64_t *wait_ms_out)
{
    const char *text = cli->options[PGQRS_OPT_WAIT];
    if (text == NULL || *text == 0) {
        *wait_ms_out = text == NULL ? 0 : -1;
        return PGQRS_CLI_OK;
    }
    return pgqrs_cli_duration(cli, PGQRS_OPT_WAIT, 0, wait_ms_out) < 0 ? PGQRS_CLI_USAGE
                                                                       : PGQRS_CLI_OK;
}

int pgqrs_run_await(struct pgqrs_cli *cli, int64_t id, struct pgqrs_run_list *one_out)
{
    int64_t wait_ms;
    int64_t began = pgqrs_mono_ms();
    int64_t pause = LOOK_FIRST_MS;
    struct pgqrs_error err;
    int rc;
    if (pgqrs_run_wait_option(cli, &wait_ms) != PGQRS_CLI_OK) {
        return PGQRS_CLI_USAGE;
    }
    for (;;) {
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_follow(cli->store, id, one_out, &err));
        if (rc < 0) {
            return pgqrs_cli_fail(&err);
        }
        int64_t waited = pgqrs_mono_ms() - began;
        if (pgqrs_run_has_ended(one_out->items[0].status)) {
            return PGQRS_CLI_OK;
        }
        if (wait_ms >= 0 && waited >= wait_ms) {
            return PGQRS_CLI_NOT_ENDED;
        }
        id = one_out->items[0].message_id; /* of those before it nothing changes any more */
        pgqrs_run_list_fini(one_out);
        int64_t left = wait_ms < 0 ? pause : wait_ms - waited;
        (void)poll(NULL, 0, (int)(pause < left ? pause : left));
        pause = pause * 2 < LOOK_EVERY_MS ? pause * 2 : LOOK_EVERY_MS;
    }
}

int pgqrs_run_each(struct pgqrs_cli *cli, struct pgqrs_run_filter filter, int64_t max,
                   int (*take)(void *arg, const struct pgqrs_run *run), void *arg,
                   int64_t *next_out)
{
    int64_t left = max == 0 ? INT64_MAX : max;
    int status = PGQRS_CLI_OK;
    do {
        struct pgqrs_run_list page;
        struct pgqrs_error err;
        int rc;
        filter.limit = (uint32_t)(left < PAGE_MAX ? left : PAGE_MAX);
        PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_list(cli->store, &filter, &page, &err));
        if (rc < 0) {
            return pgqrs_cli_fail(&err);
        }
        for (size_t i = 0; status == PGQRS_CLI_OK && i < page.count; i++) {
            status = take(arg, &page.items[i]);
        }
        left -= (int64_t)page.count;
        filter.before_id = page.next_before_id;
        pgqrs_run_list_fini(&page);
    } while (status == PGQRS_CLI_OK && left > 0 && filter.before_id != 0);
    *next_out = filter.before_id;
    return status;
}

/* ---- times ---- */

const char *pgqrs_took(int64_t us, char out[PGQRS_TOOK_SIZE])
{
    us = us < 0 ? 0 : us;
    int64_t s = us / SECOND_US;
    if (us < SECOND_US) {
        (void)snprintf(out, PGQRS_TOOK_SIZE, "%" PRId64 "ms", us / 1000);
    } else if (s < 60) {
        (void)snprintf(out, PGQRS_TOOK_SIZE, "%" PRId64 ".%" PRId64 "s", s, us / 100000 % 10);
    } else if (s < 3600) {
        (void)snprintf(out, PGQRS_TOOK_SIZE, "%" PRId64 "m %" PRId64 "s", s / 60, s % 60);
    } else if (s < 86400) {
        (void)snprintf(out, PGQRS_TOOK_SIZE, "%" PRId64 "h %" PRId64 "m", s / 3600, s / 60 % 60);
    } else {
        (void)snprintf(out, PGQRS_TOOK_SIZE, "%" PRId64 "d %" PRId64 "h", s / 86400, s / 3600 % 24);
    }
    return out;
}

const char *pgqrs_run_took(const struct pgqrs_run *run, char out[PGQRS_TOOK_SIZE])
{
    int64_t end = run->completed_at_us != 0          ? run->completed_at_us
                  : pgqrs_run_has_ended(run->status) ? run->updated_at_us
                                                     : pgqrs_wall_us();
    return run->started_at_us == 0 ? NULL : pgqrs_took(end - run->started_at_us, out);
}

const char *pgqrs_run_wait(int64_t until_us, char out[PGQRS_TOOK_SIZE + 8])
{
    char took[PGQRS_TOOK_SIZE];
    int64_t left = until_us - pgqrs_wall_us();
    if (pgqrs_time_or_never(until_us) == 0) {
        return NULL;
    }
    (void)snprintf(out, PGQRS_TOOK_SIZE + 8, "%s%s", left <= 0 ? "now" : "in ",
                   left <= 0 ? "" : pgqrs_took(left, took));
    return out;
}

const char *pgqrs_run_when(int64_t us, char out[PGQRS_WHEN_SIZE])
{
    char time[PGQRS_TIME_SIZE];
    char wait[PGQRS_TOOK_SIZE + 8];
    if (pgqrs_run_wait(us, wait) == NULL) {
        (void)snprintf(out, PGQRS_WHEN_SIZE, "an event comes");
    } else {
        (void)snprintf(out, PGQRS_WHEN_SIZE, "%s, %s", pgqrs_time_table(us, time), wait);
    }
    return out;
}

/* ---- texts ---- */

static void put_terminated(struct pgqrs_buf *out, const char *text, size_t len)
{
    pgqrs_buf_put(out, text, len);
    pgqrs_buf_put_u8(out, 0);
}

void pgqrs_run_error_text(const char *json, struct pgqrs_buf *out)
{
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    const char *text = json_string_value(value);
    if (text == NULL) {
        text = json_string_value(json_object_get(value, "message"));
    }
    text = text == NULL ? json : text;
    put_terminated(out, text, strlen(text));
    json_decref(value);
}

/* The value stays as it was written, so that no number changes. */
void pgqrs_run_input_text(const char *payload, struct pgqrs_buf *out)
{
    json_t *value = json_loads(payload, 0, NULL);
    bool wrapped = json_object_size(value) == 1 && json_object_get(value, "input") != NULL;
    const char *colon = strchr(payload, ':');
    const char *end = strrchr(payload, '}');
    json_decref(value);
    if (!wrapped || colon == NULL || end == NULL) {
        put_terminated(out, payload, strlen(payload));
        return;
    }
    colon++;
    colon += strspn(colon, " \t\r\n");
    while (end > colon && strchr(" \t\r\n", end[-1]) != NULL) {
        end--;
    }
    put_terminated(out, colon, (size_t)(end - colon));
}

/* ---- JSON ---- */

static void id_or_null(struct pgqrs_json *json, const char *key, int64_t id)
{
    if (id == 0) {
        pgqrs_json_text(json, key, NULL);
    } else {
        pgqrs_json_integer(json, key, id);
    }
}

void pgqrs_run_as_json(struct pgqrs_json *json, const struct pgqrs_run *run)
{
    struct pgqrs_buf input = {0};
    if (run->input != NULL) {
        pgqrs_run_input_text(run->input, &input);
    }
    pgqrs_json_integer(json, "id", run->message_id);
    id_or_null(json, "run_id", run->id);
    pgqrs_json_text(json, "workflow", run->workflow);
    pgqrs_json_text(json, "status", pgqrs_run_status_name(run->status));
    id_or_null(json, "parent_id", run->parent_id);
    id_or_null(json, "worker_id", run->worker_id);
    pgqrs_json_time(json, "created_at", run->created_at_us);
    pgqrs_json_time(json, "updated_at", run->updated_at_us);
    pgqrs_json_time(json, "started_at", run->started_at_us);
    pgqrs_json_time(json, "paused_at", run->paused_at_us);
    pgqrs_json_time(json, "completed_at", run->completed_at_us);
    pgqrs_json_time(json, "due_at", pgqrs_time_or_never(run->due_at_us));
    pgqrs_json_embed(json, "input", (const char *)input.data);
    pgqrs_json_embed(json, "output", run->output);
    pgqrs_json_embed(json, "error", run->error);
    pgqrs_buf_fini(&input);
}

void pgqrs_steps_as_json(struct pgqrs_json *json, const char *key,
                         const struct pgqrs_step_list *steps)
{
    pgqrs_json_begin(json, key, '[');
    for (size_t i = 0; i < steps->count; i++) {
        const struct pgqrs_step *step = &steps->items[i];
        pgqrs_json_begin(json, NULL, '{');
        pgqrs_json_text(json, "name", step->name);
        pgqrs_json_text(json, "kind", pgqrs_step_kind_name(step->kind));
        pgqrs_json_text(json, "status", pgqrs_step_status_name(step->status));
        pgqrs_json_integer(json, "attempts", (int64_t)step->retry_count + 1);
        pgqrs_json_time(json, "started_at", step->started_at_us);
        pgqrs_json_time(json, "completed_at", step->completed_at_us);
        pgqrs_json_time(json, "retry_at", pgqrs_time_or_never(step->retry_at_us));
        pgqrs_json_embed(json, "output", step->output);
        pgqrs_json_embed(json, "error", step->error);
        pgqrs_json_end(json, '}');
    }
    pgqrs_json_end(json, ']');
}

void pgqrs_pairs_as_json(struct pgqrs_json *json, const char *key, const char *value,
                         const char *at, const struct pgqrs_pair_list *pairs)
{
    pgqrs_json_begin(json, key, '[');
    for (size_t i = 0; i < pairs->count; i++) {
        pgqrs_json_begin(json, NULL, '{');
        pgqrs_json_text(json, "name", pairs->items[i].name);
        pgqrs_json_embed(json, value, pairs->items[i].json);
        pgqrs_json_time(json, at, pairs->items[i].at_us);
        pgqrs_json_end(json, '}');
    }
    pgqrs_json_end(json, ']');
}

/* ---- tables ---- */

enum mark { MARK_DONE, MARK_FAILED, MARK_RUNS, MARK_WAITS, MARK_AGAIN };

/* ended: the run has, so that nothing waits any more. */
static enum mark mark_of(const struct pgqrs_step *step, bool ended)
{
    if (step->status == PGQRS_STEP_SUCCESS) {
        return MARK_DONE;
    }
    if (ended) {
        return MARK_FAILED;
    }
    if (step->status != PGQRS_STEP_ERROR) {
        return MARK_RUNS;
    }
    bool waits = step->kind == PGQRS_STEP_SLEEP || step->kind == PGQRS_STEP_EVENT;
    return step->retry_at_us == 0 ? MARK_FAILED : waits ? MARK_WAITS : MARK_AGAIN;
}

static void put_until(struct pgqrs_buf *out, const struct pgqrs_step *step)
{
    char when[PGQRS_WHEN_SIZE];
    char text[PGQRS_WHEN_SIZE + 8];
    if (step->kind == PGQRS_STEP_EVENT && step->error != NULL) {
        pgqrs_run_error_text(step->error, out); /* names the event */
        if (pgqrs_run_wait(step->retry_at_us, text) == NULL || out->failed) {
            return;
        }
        out->len--;
        pgqrs_buf_put(out, ", ", 2);
    }
    (void)snprintf(text, sizeof text, "until %s", pgqrs_run_when(step->retry_at_us, when));
    put_terminated(out, text, strlen(text));
}

static void put_again(struct pgqrs_buf *out, const struct pgqrs_step *step)
{
    char wait[PGQRS_TOOK_SIZE + 8] = "";
    pgqrs_buf_put(out, "again ", 6);
    (void)pgqrs_run_wait(step->retry_at_us, wait);
    pgqrs_buf_put(out, wait, strlen(wait));
    if (step->error == NULL) {
        pgqrs_buf_put_u8(out, 0);
    } else {
        pgqrs_buf_put(out, ": ", 2);
        pgqrs_run_error_text(step->error, out);
    }
}

/* What has come of it, or what it waits for. */
static void put_outcome(struct pgqrs_buf *out, const struct pgqrs_step *step, enum mark mark)
{
    const char *text = "-";
    switch (mark) {
    case MARK_WAITS:
        put_until(out, step);
        return;
    case MARK_AGAIN:
        put_again(out, step);
        return;
    case MARK_FAILED:
        if (step->error != NULL) {
            pgqrs_run_error_text(step->error, out);
            return;
        }
        break;
    case MARK_DONE:
        text = step->output != NULL ? step->output : text;
        break;
    case MARK_RUNS:
        break;
    }
    put_terminated(out, text, strlen(text));
}

void pgqrs_steps_print(const struct pgqrs_step_list *steps, bool ended)
{
    static const char *const headers[] = {"", "STEP", "KIND", ">TRIES", ">TOOK", "OUTCOME"};
    static const char *const marks[2][5] = {{"+", "x", ">", "~", "!"},
                                            {"\u2713", "\u2717", "\u25b6", "\u25f7", "\u21bb"}};
    bool utf8 = pgqrs_is_utf8_wanted();
    struct pgqrs_table table = pgqrs_table_of(headers, 6);
    for (size_t i = 0; i < steps->count; i++) {
        const struct pgqrs_step *step = &steps->items[i];
        enum mark mark = mark_of(step, ended);
        char took[PGQRS_TOOK_SIZE];
        struct pgqrs_buf text = {0};
        bool timed = step->started_at_us != 0 && step->completed_at_us >= step->started_at_us &&
                     (mark == MARK_DONE || mark == MARK_FAILED);
        pgqrs_table_text(&table, marks[utf8][mark]);
        pgqrs_table_text(&table, step->name);
        pgqrs_table_text(&table, pgqrs_step_kind_name(step->kind));
        pgqrs_table_number(&table, (int64_t)step->retry_count + 1);
        pgqrs_table_text(
            &table, timed ? pgqrs_took(step->completed_at_us - step->started_at_us, took) : NULL);
        put_outcome(&text, step, mark);
        pgqrs_table_text(&table, text.failed ? "?" : (const char *)text.data);
        pgqrs_buf_fini(&text);
    }
    pgqrs_table_print(&table);
}

void pgqrs_pairs_print(const char *name, const char *value, const struct pgqrs_pair_list *pairs)
{
    const char *const headers[] = {name, "AT", value};
    struct pgqrs_table table = pgqrs_table_of(headers, 3);
    for (size_t i = 0; i < pairs->count; i++) {
        char time[PGQRS_TIME_SIZE];
        pgqrs_table_text(&table, pairs->items[i].name);
        pgqrs_table_text(&table, pgqrs_time_table(pairs->items[i].at_us, time));
        pgqrs_table_text(&table, pairs->items[i].json);
    }
    pgqrs_table_print(&table);
}
