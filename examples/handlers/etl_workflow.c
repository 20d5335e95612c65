/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A durable workflow that fans out: the parts of a batch are extracted, each is worked on by a run
 * of its own (etl_part.c), all are joined and loaded; then the run continues as a new one with the
 * batches that are left, so that what is stored of a run stays small, however many there are.
 *
 * Input {"batches": [["north", "south"], ["east"]]}. Output of the last run {"rows": N}.
 * Settings: file, work_ms (journal.h); part_workflow, default "etl_part": the queue of the parts.
 */
#include "journal.h"

#define PARTS_MAX 1000

struct state {
    struct journal journal;
    json_t *settings;
    const char *part_workflow;
};

struct batch {
    struct state *state;
    struct pgqrs_job *job;
    char key[32];
    json_t *input;
    json_t *parts; /* of this batch, as extract has said */
    json_int_t rows;
};

/* What it finds may be different the next time; its result, once stored, is not. */
static enum pgqrs_outcome extract(struct pgqrs_job *job, void *arg)
{
    const struct batch *b = arg;
    json_t *parts = json_array_get(json_object_get(b->input, "batches"), 0);
    if (!json_is_array(parts) || json_array_size(parts) > PARTS_MAX) {
        return pgqrs_fail(job, "input: expected {\"batches\": [[\"NAME\", ...], ...]}");
    }
    enum pgqrs_outcome outcome = journal_call(&b->state->journal, job, "extract", b->key, "-");
    return outcome == PGQRS_DONE ? journal_result(job, json_incref(parts)) : outcome;
}

static enum pgqrs_outcome load(struct pgqrs_job *job, void *arg)
{
    const struct batch *b = arg;
    char rows[32];
    (void)snprintf(rows, sizeof rows, "%" JSON_INTEGER_FORMAT, b->rows);
    return journal_call(&b->state->journal, job, "load", b->key, rows);
}

/* All are started before the first is joined, so they run side by side. */
static enum pgqrs_rc run_parts(struct batch *b)
{
    int64_t children[PARTS_MAX];
    size_t count = json_array_size(b->parts);
    enum pgqrs_rc rc = PGQRS_RC_OK;
    char name[32];
    for (size_t i = 0; i < count && rc == PGQRS_RC_OK; i++) {
        char *input = json_dumps(json_array_get(b->parts, i), JSON_ENCODE_ANY);
        (void)snprintf(name, sizeof name, "part#%zu", i + 1);
        rc = pgqrs_run_child(b->job, name, b->state->part_workflow, input,
                             input == NULL ? 0 : strlen(input), &children[i]);
        free(input);
    }
    for (size_t i = 0; i < count && rc == PGQRS_RC_OK; i++) {
        const char *output = NULL;
        (void)snprintf(name, sizeof name, "join#%zu", i + 1);
        rc = pgqrs_join(b->job, name, children[i], &output);
        if (rc == PGQRS_RC_OK) {
            json_t *result = json_loads(output, JSON_DECODE_ANY, NULL);
            b->rows += json_integer_value(json_object_get(result, "rows"));
            json_decref(result);
        }
    }
    return rc;
}

static enum pgqrs_rc next_batch(struct batch *b)
{
    json_t *next = json_deep_copy(b->input);
    (void)json_array_remove(json_object_get(next, "batches"), 0);
    (void)json_object_set_new(next, "rows", json_integer(b->rows));
    char *text = json_dumps(next, JSON_COMPACT);
    enum pgqrs_rc rc = pgqrs_continue_as_new(b->job, text, text == NULL ? 0 : strlen(text));
    free(text);
    json_decref(next);
    return rc;
}

static enum pgqrs_outcome run_batch(struct batch *b)
{
    const char *parts = NULL;
    PGQRS_TRY(pgqrs_step(b->job, "extract", extract, b, &parts));
    b->parts = json_loads(parts, 0, NULL);
    PGQRS_TRY(run_parts(b));
    PGQRS_TRY(pgqrs_step(b->job, "load", load, b, NULL));
    if (json_array_size(json_object_get(b->input, "batches")) > 1) {
        PGQRS_TRY(next_batch(b)); /* it never says OK: this run has ended */
    }
    return journal_result(b->job, json_pack("{s:I}", "rows", b->rows));
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    struct batch b = {.state = state, .job = job};
    (void)snprintf(b.key, sizeof b.key, "etl-%lld", (long long)job->id);
    b.input = json_loadb(job->input, job->input_len, JSON_DECODE_ANY, NULL);
    b.rows = json_integer_value(json_object_get(b.input, "rows")); /* of the batches before */
    enum pgqrs_outcome outcome = run_batch(&b);
    json_decref(b.parts);
    json_decref(b.input);
    return outcome;
}

static void fini(void *opaque)
{
    struct state *state = opaque;
    journal_close(&state->journal);
    json_decref(state->settings);
    free(state);
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    struct state *state = calloc(1, sizeof *state);
    json_t *settings = json_loads(setup->settings, 0, NULL);
    if (state == NULL || journal_open(&state->journal, settings, setup) < 0) {
        json_decref(settings);
        free(state);
        return -1;
    }
    state->settings = settings;
    state->part_workflow = json_string_value(json_object_get(settings, "part_workflow"));
    if (state->part_workflow == NULL) {
        state->part_workflow = "etl_part";
    }
    *state_out = state;
    return 0;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "etl_workflow",
    .version = "1.0",
    .init = init,
    .run = run,
    .fini = fini,
    .flags = PGQRS_WORKFLOW,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
