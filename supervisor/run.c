/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define RUNS_MAX 16
#define OUTCOME_MS 20000   /* for the broker to store it, once the worker has ended */
#define KILL_AFTER_MS 2000 /* the grace, which the worker itself keeps */

static void close_both(const int fds[2])
{
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
}

static void destroy(struct run *run)
{
    LIST_REMOVE(run, link);
    if (run->timer != NULL) {
        event_free(run->timer);
    }
    close_both(run->fds);
    free(run->text);
    free(run->why);
    free(run);
}

/* The worker's end explains what the outcome does not. */
static void finish(struct run *run)
{
    const char *outcome =
        run->outcome == PGQRS_ISOLATED_NONE ? "unknown" : pgqrs_run_outcome_name(run->outcome);
    const char *text = run->text != NULL && run->text[0] != 0 ? run->text
                       : run->why != NULL                     ? run->why
                                                              : "";
    pgqrs_log_info("%s: %s%s%s", pgqrs_place_name(&run->place), outcome, *text == 0 ? "" : ": ",
                   text);
    if (run->done != NULL) {
        run->done(run->context, outcome, text);
    }
    destroy(run);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct run *run = arg;
    (void)fd;
    (void)what;
    if (run->ended) {
        finish(run);
    } else if (run->place.child != NULL) {
        run->place.child->interrupted = true;
        pgqrs_child_kill(run->place.child, "it did not stop when its run was cancelled");
    }
}

static void start_timer(struct run *run, int64_t ms)
{
    const struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    (void)evtimer_add(run->timer, &delay); /* what it waits for still comes by itself */
}

/* ---- start ---- */

static uint32_t free_slot(const struct supervisor *s)
{
    uint32_t slot = PGQRS_RUN_SLOTS;
    const struct run *run = LIST_FIRST(&s->runs);
    while (run != NULL) {
        bool taken = run->place.slot == slot;
        slot += taken ? 1 : 0;
        run = taken ? LIST_FIRST(&s->runs) : LIST_NEXT(run, link);
    }
    return slot;
}

static int check(const struct supervisor *s, const struct queue *queue, struct pgqrs_error *err)
{
    size_t count = 0;
    const struct run *run;
    LIST_FOREACH(run, &s->runs, link)
    {
        count++;
    }
    if (s->state != SUPERVISOR_RUNNING || queue->serial > s->known_serial) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               s->state >= SUPERVISOR_DRAINING ? "pgqrsd is stopping"
                                                               : "pgqrsd is starting");
    }
    if (s->drain_asked) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "pgqrsd is drained; to end that: pgqrs ctl resume");
    }
    if (count >= RUNS_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                               "found %d isolated runs, expected fewer before another one",
                               RUNS_MAX);
    }
    return 0;
}

static struct run *create(struct supervisor *s, struct queue *queue, const int fds[2])
{
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL) {
        close_both(fds);
        return NULL;
    }
    memcpy(run->fds, fds, sizeof run->fds);
    run->place = (struct place){
        .s = s, .role = PGQRS_ROLE_WORKER, .queue = queue, .slot = free_slot(s), .run = run};
    run->timer = evtimer_new(s->base, on_timer, run);
    LIST_INSERT_HEAD(&s->runs, run, link);
    return run;
}

struct run *pgqrs_run_start(struct supervisor *s, struct queue *queue, int64_t message_id,
                            const int fds[2], run_done_fn *done, void *context,
                            struct pgqrs_error *err)
{
    if (check(s, queue, err) < 0) {
        close_both(fds);
        return NULL;
    }
    struct run *run = create(s, queue, fds);
    if (run == NULL || run->timer == NULL) {
        if (run != NULL) {
            destroy(run);
        }
        (void)pgqrs_error_memory(err);
        return NULL;
    }
    run->message_id = message_id;
    if (pgqrs_child_create(&run->place, err) < 0) {
        destroy(run);
        return NULL;
    }
    close_both(run->fds);
    run->fds[0] = run->fds[1] = -1;
    run->generation = run->place.child->generation;
    run->done = done;
    run->context = context;
    pgqrs_log_info("%s: started pid=%d generation=%" PRIu64, pgqrs_place_name(&run->place),
                   (int)run->place.child->pid, run->generation);
    return run;
}

/* ---- end ---- */

void pgqrs_run_cancel(struct run *run)
{
    struct child *child = run->place.child;
    if (run->cancelled || child == NULL) {
        return;
    }
    run->cancelled = true;
    if (child->state >= CHILD_WELCOMED && child->state != CHILD_KILLED) {
        const struct pgqrs_order order = {.generation = run->generation,
                                          .kind = PGQRS_ORDER_INTERRUPT};
        struct pgqrs_buf out = {0};
        pgqrs_encode_order(&out, PGQRS_MSG_WORKER_ORDER, &order);
        pgqrs_child_post(child, &out);
    }
    pgqrs_child_drain(child);
    start_timer(run, child->version->config.cancel_grace_ms + KILL_AFTER_MS);
}

void pgqrs_run_forget(struct run *run)
{
    run->done = NULL;
    pgqrs_run_cancel(run);
}

void pgqrs_run_told(struct supervisor *s, const struct pgqrs_run_ended *m)
{
    struct run *run;
    LIST_FOREACH(run, &s->runs, link)
    {
        if (run->generation == m->generation) {
            break;
        }
    }
    if (run == NULL || run->outcome != PGQRS_ISOLATED_NONE) {
        return;
    }
    run->outcome = m->outcome;
    run->text = strdup(m->text);
    if (run->ended) {
        finish(run);
    } else if (m->outcome == PGQRS_ISOLATED_REFUSED) {
        pgqrs_child_drain(run->place.child);
    }
}

void pgqrs_run_worker_ended(struct place *place, int exit_code, const char *why)
{
    struct run *run = place->run;
    run->ended = true;
    run->why = exit_code == PGQRS_EXIT_OK ? NULL : strdup(why);
    (void)evtimer_del(run->timer);
    if (run->outcome != PGQRS_ISOLATED_NONE) {
        finish(run);
    } else {
        start_timer(run, OUTCOME_MS);
    }
}

bool pgqrs_run_uses(const struct queue *queue)
{
    const struct run *run;
    LIST_FOREACH(run, &queue->s->runs, link)
    {
        if (run->place.queue == queue) {
            return true;
        }
    }
    return false;
}

void pgqrs_runs_fini(struct supervisor *s)
{
    struct run *run;
    while ((run = LIST_FIRST(&s->runs)) != NULL) {
        finish(run);
    }
}
