/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest workflow, with one step. etl_workflow.c starts a run of it for each part; anybody
 * else may, too. Input: a name, "north". Output {"part": "north", "rows": 5}. Settings: journal.h.
 */
#include "journal.h"

struct part {
    struct journal *journal;
    const char *name;
};

/* A service that does not answer each third call, the first among them. The step is tried again
 * after a delay; meanwhile the run is suspended, and its worker free. */
static enum pgqrs_outcome transform(struct pgqrs_job *job, void *arg)
{
    const struct part *part = arg;
    enum pgqrs_outcome outcome = journal_call(part->journal, job, "transform", part->name, "-");
    if (outcome == PGQRS_DONE && part->journal->calls % 3 == 1) {
        return pgqrs_retry(job, -1, "\"%s\": no answer", part->name);
    }
    return outcome != PGQRS_DONE ? outcome
                                 : journal_result(job, json_pack("{s:s,s:i}", "part", part->name,
                                                                 "rows", (int)strlen(part->name)));
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    const struct pgqrs_step_options options = {.retries = 10, .base_ms = 100, .max_ms = 5000};
    const char *result = NULL;
    json_t *input = json_loadb(job->input, job->input_len, JSON_DECODE_ANY, NULL);
    struct part part = {.journal = state, .name = json_string_value(input)};
    enum pgqrs_outcome outcome = PGQRS_PASS;
    if (part.name == NULL) {
        outcome =
            pgqrs_fail(job, "input: found %.*s, expected a text", (int)job->input_len, job->input);
    } else if (pgqrs_step_with(job, "transform", options, transform, &part, &result) ==
               PGQRS_RC_OK) {
        (void)job->host->set_result(job, result, strlen(result));
        outcome = PGQRS_DONE;
    }
    json_decref(input);
    return outcome;
}

static void fini(void *state)
{
    journal_close(state);
    free(state);
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    struct journal *journal = calloc(1, sizeof *journal);
    json_t *settings = json_loads(setup->settings, 0, NULL);
    int rc = journal == NULL ? -1 : journal_open(journal, settings, setup);
    json_decref(settings);
    if (rc < 0) {
        free(journal);
        return -1;
    }
    *state_out = journal;
    return 0;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "etl_part",
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
