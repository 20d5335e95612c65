/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A durable workflow: an order is charged, its goods are reserved, somebody has to approve it
 * within a day, then it is shipped. When it is cancelled, is not approved in time, or can not be
 * shipped, what was done is undone, the last thing first.
 *
 * Input {"item": "tea", "amount": 12}. Settings: file, work_ms (journal.h); approval_ms, a day.
 *
 * run() begins at the top each time the run goes on: after the approval, after a crash, on another
 * host. A step that has been stored is not run again, its result is returned. So what happens to
 * the world stands in steps, and what stands between them depends on the input and on results only.
 */
#include <stdbool.h>

#include "journal.h"

#define DAY_MS (24LL * 60 * 60 * 1000)

struct state {
    struct journal journal;
    json_int_t approval_ms;
};

struct order {
    struct state *state;
    struct pgqrs_job *job;
    const char *item;
    json_int_t amount;
    char key[32];             /* that services know the order by: the same in each replay */
    bool charging, reserving; /* what may have to be undone */
    const char *approval;     /* the event's payload, JSON */
};

/* `pgqrs run state ID` shows it. Called in steps only, so that a replay does not say it again. */
static void set_stage(const struct order *o, const char *stage)
{
    char json[64];
    int n = snprintf(json, sizeof json, "\"%s\"", stage);
    (void)pgqrs_set_state(o->job, "stage", json, (size_t)n); /* a want of it harms nobody */
}

/* ---- the steps: each runs until its result is stored, and never after that ---- */

static enum pgqrs_outcome charge(struct pgqrs_job *job, void *arg)
{
    const struct order *o = arg;
    char text[32];
    set_stage(o, "charging");
    (void)snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, o->amount);
    enum pgqrs_outcome outcome = journal_call(&o->state->journal, job, "charge", o->key, text);
    return outcome != PGQRS_DONE ? outcome
                                 : journal_result(job, json_pack("{s:s,s:I}", "receipt", o->key,
                                                                 "amount", o->amount));
}

static enum pgqrs_outcome reserve(struct pgqrs_job *job, void *arg)
{
    const struct order *o = arg;
    set_stage(o, "reserving");
    if (strcmp(o->item, "unicorn") == 0) {
        return pgqrs_fail(job, "\"%s\" is out of stock", o->item); /* for good: undone below */
    }
    enum pgqrs_outcome outcome = journal_call(&o->state->journal, job, "reserve", o->key, o->item);
    if (outcome == PGQRS_DONE) {
        set_stage(o, "waiting for approval");
    }
    return outcome;
}

static enum pgqrs_outcome ship(struct pgqrs_job *job, void *arg)
{
    const struct order *o = arg;
    set_stage(o, "shipping");
    enum pgqrs_outcome outcome = journal_call(&o->state->journal, job, "ship", o->key, o->approval);
    if (outcome == PGQRS_DONE) {
        set_stage(o, "shipped");
    }
    return outcome;
}

static enum pgqrs_outcome release(struct pgqrs_job *job, void *arg)
{
    const struct order *o = arg;
    set_stage(o, "releasing");
    return journal_call(&o->state->journal, job, "release", o->key, "-");
}

static enum pgqrs_outcome refund(struct pgqrs_job *job, void *arg)
{
    const struct order *o = arg;
    set_stage(o, "refunding");
    enum pgqrs_outcome outcome = journal_call(&o->state->journal, job, "refund", o->key, "-");
    if (outcome == PGQRS_DONE) {
        set_stage(o, "cancelled");
    }
    return outcome;
}

/* ---- the workflow ---- */

static enum pgqrs_rc fulfil(struct order *o)
{
    enum pgqrs_rc rc;
    /* Noted before the step, not after it: a step that has failed, or whose worker has crashed
     * before the result was stored, may have reached its service. */
    o->charging = true;
    if ((rc = pgqrs_step(o->job, "charge", charge, o, NULL)) != PGQRS_RC_OK) {
        return rc;
    }
    o->reserving = true;
    if ((rc = pgqrs_step(o->job, "reserve", reserve, o, NULL)) != PGQRS_RC_OK) {
        return rc;
    }
    /* Here run() ends, and begins again when the event has come or the time is over. Meanwhile the
     * order holds no worker. `pgqrs workflow signal ID approval '{"by": "ann"}'` */
    rc = pgqrs_wait_event(o->job, "approval", o->state->approval_ms, &o->approval);
    if (rc != PGQRS_RC_OK) {
        return rc;
    }
    return pgqrs_step(o->job, "ship", ship, o, NULL);
}

/* PGQRS_STEP_ON_CANCEL: these run although the run is being cancelled. They are not to give up. */
static enum pgqrs_rc compensate(struct order *o)
{
    const struct pgqrs_step_options options = {.flags = PGQRS_STEP_ON_CANCEL, .retries = 100};
    enum pgqrs_rc rc = PGQRS_RC_OK;
    if (o->reserving) {
        rc = pgqrs_step_with(o->job, "release", options, release, o, NULL);
    }
    if (rc == PGQRS_RC_OK && o->charging) {
        rc = pgqrs_step_with(o->job, "refund", options, refund, o, NULL);
    }
    return rc;
}

static enum pgqrs_outcome run_order(struct order *o)
{
    enum pgqrs_rc rc = fulfil(o);
    const char *why;
    switch (rc) {
    case PGQRS_RC_OK:
        return journal_result(o->job, json_pack("{s:s,s:o}", "order", "shipped", "approval",
                                                json_loads(o->approval, JSON_DECODE_ANY, NULL)));
    case PGQRS_RC_TIMED_OUT:
    case PGQRS_RC_FAILED:
        /* An order that was undone has ended well: it is no dead letter that somebody replays. */
        why = pgqrs_step_error(o->job);
        PGQRS_TRY(compensate(o));
        return journal_result(o->job, json_pack("{s:s,s:o}", "order", "cancelled", "why",
                                                json_loads(why, JSON_DECODE_ANY, NULL)));
    case PGQRS_RC_CANCELLED:
        PGQRS_TRY(compensate(o));
        return PGQRS_PASS; /* the host knows that the run is cancelled */
    case PGQRS_RC_SUSPENDED:
    case PGQRS_RC_STOPPED:
        break;
    }
    return PGQRS_PASS;
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    json_t *input = json_loadb(job->input, job->input_len, JSON_DECODE_ANY, NULL);
    struct order o = {.state = state,
                      .job = job,
                      .item = json_string_value(json_object_get(input, "item")),
                      .amount = json_integer_value(json_object_get(input, "amount"))};
    enum pgqrs_outcome outcome;
    (void)snprintf(o.key, sizeof o.key, "order-%lld", (long long)job->id);
    if (o.item == NULL || o.amount <= 0) {
        outcome = pgqrs_fail(job, "input: expected {\"item\": TEXT, \"amount\": NUMBER}");
    } else {
        outcome = run_order(&o);
    }
    json_decref(input);
    return outcome;
}

static void fini(void *opaque)
{
    struct state *state = opaque;
    journal_close(&state->journal);
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
    const json_t *approval_ms = json_object_get(settings, "approval_ms");
    state->approval_ms = approval_ms == NULL ? DAY_MS : json_integer_value(approval_ms);
    json_decref(settings);
    *state_out = state;
    return 0;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "order_workflow",
    .version = "1.0",
    .init = init,
    .run = run,
    .fini = fini,
    .flags = PGQRS_WORKFLOW | PGQRS_COMPENSATES,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
