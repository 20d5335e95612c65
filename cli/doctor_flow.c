/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of workflow runs and schedules. */
#include "cli/doctor.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cli/runs.h"
#include "store/schedule.h"

#define RUNS_MAX 1000 /* of a status, the newest of them */
#define FOUND_MAX 10  /* of a check, which would otherwise tell the same again and again */
#define MINUTE_US INT64_C(60000000)
#define CANCELLING_LONG_US (10 * MINUTE_US)
#define PAUSED_LONG_US (24 * 60 * MINUTE_US)
#define OVERDUE_US MINUTE_US
#define PAGE PGQRS_SCHEDULE_LIST_MAX

struct looking {
    struct pgqrs_doctor *d;
    int found;
};

/* ---- runs ---- */

static int each_run(struct pgqrs_doctor *d, enum pgqrs_run_status status,
                    int (*take)(void *arg, const struct pgqrs_run *run), struct pgqrs_error *err)
{
    const struct pgqrs_run_filter filter = {.status = status};
    struct looking looking = {.d = d};
    int64_t next = 0;
    if (pgqrs_run_each(d->cli, filter, RUNS_MAX, take, &looking, &next) != PGQRS_CLI_OK) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "the runs can not be read");
    }
    return 0;
}

static int take_cancelling(void *arg, const struct pgqrs_run *run)
{
    struct looking *l = arg;
    int64_t age_us = l->d->now_us - run->updated_at_us;
    char took[PGQRS_TOOK_SIZE];
    if (age_us < CANCELLING_LONG_US || l->found == FOUND_MAX) {
        return PGQRS_CLI_OK;
    }
    l->found++;
    pgqrs_doctor_found(l->d, PGQRS_SEVERITY_WARNING,
                       "run %" PRId64 " of workflow \"%s\" is to be cancelled for %s, but %s",
                       run->message_id, run->workflow, pgqrs_took(age_us, took),
                       run->due_at_us != 0 ? "no worker takes it"
                                           : "its worker does not come to a step");
    if (run->due_at_us != 0) {
        pgqrs_doctor_mend(l->d, "pgqrsd -c FILE, with the workflow in it");
    } else {
        pgqrs_doctor_mend(l->d, "pgqrs worker stop %" PRId64 " --yes", run->worker_id);
    }
    return PGQRS_CLI_OK;
}

int pgqrs_check_cancelling(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    return each_run(d, PGQRS_RUN_CANCELLING, take_cancelling, err);
}

/* Where the run waits for an event, or null: it sleeps. */
static const struct pgqrs_step *find_wait(const struct pgqrs_step_list *steps)
{
    for (size_t i = steps->count; i > 0; i--) {
        const struct pgqrs_step *step = &steps->items[i - 1];
        if (step->kind == PGQRS_STEP_EVENT && step->status == PGQRS_STEP_ERROR) {
            return step;
        }
    }
    return NULL;
}

/* An event may then be the end of another run, which nobody should send. */
static bool has_child(const struct pgqrs_step_list *steps)
{
    for (size_t i = 0; i < steps->count; i++) {
        if (steps->items[i].kind == PGQRS_STEP_CHILD) {
            return true;
        }
    }
    return false;
}

static void tell_wait(struct pgqrs_doctor *d, const struct pgqrs_run *run,
                      const struct pgqrs_step_list *steps, const char *event)
{
    char word[PGQRS_SHELL_WORD_SIZE];
    char took[PGQRS_TOOK_SIZE];
    pgqrs_doctor_found(d, PGQRS_SEVERITY_INFO,
                       "run %" PRId64 " of workflow \"%s\" has waited for \"%.255s\" for %s",
                       run->message_id, run->workflow, event,
                       pgqrs_took(d->now_us - run->paused_at_us, took));
    if (has_child(steps)) {
        pgqrs_doctor_mend(d, "pgqrs run show %" PRId64, run->message_id);
    } else {
        pgqrs_doctor_mend(d, "pgqrs workflow signal %" PRId64 " %s", run->message_id,
                          pgqrs_shell_word(event, word));
    }
}

static int take_paused(void *arg, const struct pgqrs_run *run)
{
    struct looking *l = arg;
    struct pgqrs_step_list steps = {0};
    struct pgqrs_error err;
    int64_t age_us = l->d->now_us - run->paused_at_us;
    int rc;
    if (run->paused_at_us == 0 || age_us < PAUSED_LONG_US || l->found == FOUND_MAX) {
        return PGQRS_CLI_OK;
    }
    PGQRS_RUN_TRY(rc, &err, pgqrs_store_run_steps(l->d->cli->store, run->message_id, &steps, &err));
    if (rc < 0) {
        return pgqrs_cli_fail(&err);
    }
    const struct pgqrs_step *wait = find_wait(&steps);
    if (wait != NULL) {
        l->found++;
        tell_wait(l->d, run, &steps, wait->name);
    }
    pgqrs_step_list_fini(&steps);
    return PGQRS_CLI_OK;
}

int pgqrs_check_awaited_events(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    return each_run(d, PGQRS_RUN_PAUSED, take_paused, err);
}

/* ---- schedules ---- */

static void look_at_schedule(struct pgqrs_doctor *d, const struct pgqrs_schedule *s, int64_t now_us)
{
    char word[PGQRS_SHELL_WORD_SIZE];
    char took[PGQRS_TOOK_SIZE];
    if (s->paused_at_us != 0) {
        pgqrs_doctor_found(d, PGQRS_SEVERITY_INFO, "schedule \"%s\" has been paused for %s",
                           s->name, pgqrs_took(now_us - s->paused_at_us, took));
        pgqrs_doctor_mend(d, "pgqrs schedule resume %s", pgqrs_shell_word(s->name, word));
    } else if (now_us - s->next_at_us > OVERDUE_US) {
        pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                           "schedule \"%s\" of queue \"%s\" is overdue for %s: no pgqrsd looks "
                           "at it",
                           s->name, s->queue, pgqrs_took(now_us - s->next_at_us, took));
        pgqrs_doctor_mend(d, "%s", d->pgqrsd != NULL ? "pgqrs ctl status" : "pgqrsd -c FILE");
    }
}

int pgqrs_check_schedules(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    char *after = NULL;
    int rc = 0;
    for (size_t got = PAGE; rc == 0 && got == PAGE;) {
        struct pgqrs_schedule_list page = {0};
        PGQRS_RUN_TRY(rc, err, pgqrs_store_schedule_list(d->cli->store, after, PAGE, &page, err));
        got = rc < 0 ? 0 : page.count;
        for (size_t i = 0; i < got; i++) {
            look_at_schedule(d, &page.items[i], page.now_us);
        }
        if (got > 0) {
            free(after);
            after = page.items[got - 1].name;
            page.items[got - 1].name = NULL;
        }
        pgqrs_schedule_list_fini(&page);
    }
    free(after);
    return rc;
}
