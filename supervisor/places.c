/* SPDX-License-Identifier: Apache-2.0 */
/* Where processes run, what the end of one means, and when the next one is started. */
#include "supervisor/supervisor.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "base/utf8.h"
#include "supervisor/run.h"

const char *pgqrs_place_name(const struct place *place)
{
    static char name[PGQRS_NAME_MAX + 64];
    if (place->role == PGQRS_ROLE_BROKER) {
        return "broker";
    }
    if (place->role == PGQRS_ROLE_GATEWAY) {
        return "gateway";
    }
    if (place->run != NULL) {
        (void)snprintf(name, sizeof name, "queue \"%s\": isolated run of message %" PRId64,
                       place->queue->name, place->run->message_id);
        return name;
    }
    (void)snprintf(name, sizeof name, "queue \"%s\": worker %u", place->queue->name, place->slot);
    return name;
}

void pgqrs_each_worker(struct supervisor *s, place_fn *fn)
{
    for (size_t q = 0; q < s->queue_count; q++) {
        for (size_t i = 0; i < s->queues[q]->place_count; i++) {
            fn(s->queues[q]->places[i]);
        }
    }
    struct run *run;
    LIST_FOREACH(run, &s->runs, link)
    {
        fn(&run->place);
    }
}

size_t pgqrs_workers_alive(const struct supervisor *s)
{
    size_t alive = 0;
    for (size_t q = 0; q < s->queue_count; q++) {
        for (size_t i = 0; i < s->queues[q]->place_count; i++) {
            alive += s->queues[q]->places[i]->child != NULL ? 1 : 0;
        }
    }
    const struct run *run;
    LIST_FOREACH(run, &s->runs, link)
    {
        alive += run->place.child != NULL ? 1 : 0;
    }
    return alive;
}

static bool is_pid(const struct child *child, uint64_t pid)
{
    return (uint64_t)child->pid == pid;
}

static bool is_generation(const struct child *child, uint64_t generation)
{
    return child->generation == generation;
}

static struct place *find(struct supervisor *s, bool (*matches)(const struct child *, uint64_t),
                          uint64_t value)
{
    if (s->broker.child != NULL && matches(s->broker.child, value)) {
        return &s->broker;
    }
    if (s->gateway.child != NULL && matches(s->gateway.child, value)) {
        return &s->gateway;
    }
    for (size_t q = 0; q < s->queue_count; q++) {
        for (size_t i = 0; i < s->queues[q]->place_count; i++) {
            struct place *place = s->queues[q]->places[i];
            if (place->child != NULL && matches(place->child, value)) {
                return place;
            }
        }
    }
    struct run *run;
    LIST_FOREACH(run, &s->runs, link)
    {
        if (run->place.child != NULL && matches(run->place.child, value)) {
            return &run->place;
        }
    }
    return NULL;
}

struct place *pgqrs_place_of_pid(struct supervisor *s, pid_t pid)
{
    return find(s, is_pid, (uint64_t)pid);
}

struct place *pgqrs_place_of_generation(struct supervisor *s, uint64_t generation)
{
    return find(s, is_generation, generation);
}

/* ---- starting ---- */

static void on_restart(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    pgqrs_place_start(arg);
}

static void start_after(struct place *place, int64_t ms)
{
    const struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    if (place->restart_timer == NULL) {
        place->restart_timer = evtimer_new(place->s->base, on_restart, place);
    }
    if (place->restart_timer == NULL || evtimer_add(place->restart_timer, &delay) < 0) {
        pgqrs_log_error("%s: out of memory, it is not started again", pgqrs_place_name(place));
    }
}

static int64_t ready_ms(const struct child *child)
{
    return child->ready_at_ms == 0 ? -1 : pgqrs_mono_ms() - child->ready_at_ms;
}

static int64_t restart_delay(struct place *place, int64_t ready_for_ms)
{
    return pgqrs_restart_after(&place->restart, ready_for_ms,
                               place->queue == NULL ? PGQRS_RESTART_BROKER_MAX_MS
                                                    : PGQRS_RESTART_MAX_MS);
}

/* A worker is not needed once a drain has begun; a broker is, to store what the workers finish, and
 * a gateway, to tell of it. */
static bool wanted(const struct place *place)
{
    return place->queue == NULL ? place->s->state < SUPERVISOR_STOPPING
                                : place->s->state < SUPERVISOR_DRAINING && !place->retiring;
}

void pgqrs_place_start(struct place *place)
{
    const struct queue *queue = place->queue;
    if (queue == NULL ||
        (queue->failing.retry == NULL && queue->serial <= place->s->known_serial)) {
        pgqrs_place_try(place);
    }
}

void pgqrs_place_try(struct place *place)
{
    struct pgqrs_error err;
    if (place->child != NULL || !wanted(place)) {
        return;
    }
    if (pgqrs_child_create(place, &err) < 0) {
        int64_t delay = restart_delay(place, -1);
        delay = delay < PGQRS_RESTART_MIN_MS ? PGQRS_RESTART_MIN_MS : delay;
        pgqrs_log_error("%s: not started, trying again in %" PRId64 " ms: %s",
                        pgqrs_place_name(place), delay, err.text);
        start_after(place, delay);
    }
}

void pgqrs_place_ready(struct place *place)
{
    const struct child *child = place->child;
    if (place->role == PGQRS_ROLE_BROKER) {
        pgqrs_reload_known(place->s, child->welcome_serial);
        pgqrs_supervisor_broker_ready(place->s);
        pgqrs_log_info("broker: ready pid=%d generation=%" PRIu64, (int)child->pid,
                       child->generation);
        return;
    }
    if (place->role == PGQRS_ROLE_GATEWAY) {
        pgqrs_log_info("gateway: ready pid=%d generation=%" PRIu64, (int)child->pid,
                       child->generation);
        return;
    }
    if (place->run != NULL) {
        return;
    }
    place->s->was_ready = true;
    child->version->proven = true;
    free(place->queue->last_error);
    place->queue->last_error = NULL;
    pgqrs_log_info("%s: ready pid=%d generation=%" PRIu64, pgqrs_place_name(place), (int)child->pid,
                   child->generation);
    pgqrs_pool_ready(place);
    pgqrs_failing_ready(place->queue);
}

/* ---- ending ---- */

/* What the end of a process was, for a person. */
static void describe(const struct child *child, int wait_status, const char *last_words, char *out,
                     size_t size)
{
    if (child->kill_reason != NULL) {
        (void)snprintf(out, size, "killed: %s", child->kill_reason);
    } else if (last_words[0] != 0) {
        (void)pgqrs_utf8_copy(out, size, last_words);
    } else if (child->memory_end != PGQRS_CGROUP_NOTHING && WIFSIGNALED(wait_status)) {
        char limit[32];
        pgqrs_size_format(child->memory_limit, limit, sizeof limit);
        (void)snprintf(
            out, size, "out of memory: killed by the kernel, %s of %s (isolation.memory)",
            child->memory_end == PGQRS_CGROUP_LIMIT ? "at its limit" : "but not for its own limit",
            limit);
    } else if (WIFSIGNALED(wait_status)) {
        int signal = WTERMSIG(wait_status);
        (void)snprintf(out, size, "killed by signal %d (%s)%s", signal, strsignal(signal),
                       WCOREDUMP(wait_status) ? ", core dumped"
                       : signal == SIGKILL
                           ? ", not by pgqrsd: by hand, or by the out-of-memory killer"
                           : "");
    } else {
        (void)snprintf(out, size, "exited with status %d", WEXITSTATUS(wait_status));
    }
}

static void report_to_broker(const struct place *place, const struct child *child,
                             enum pgqrs_end how, const char *why)
{
    struct supervisor *s = place->s;
    struct child *broker = s->broker.child;
    struct unreported_end *end;
    char reason[sizeof end->reason];
    (void)snprintf(reason, sizeof reason, "%s%s", how == PGQRS_END_TIMEOUT ? "" : "worker ", why);
    if (broker != NULL && broker->state >= CHILD_WELCOMED && broker->state != CHILD_KILLED) {
        pgqrs_child_post_ended(broker, child->generation, how, reason);
        return;
    }
    end = calloc(1, sizeof *end);
    if (end != NULL) { /* else the next broker finds its leases by itself */
        pgqrs_child_describe_worker(child, &end->worker);
        end->how = how;
        memcpy(end->reason, reason, sizeof reason);
        STAILQ_INSERT_TAIL(&s->unreported, end, link);
        s->unreported_count++;
    }
}

static enum pgqrs_end how_ended(const struct child *child, int wait_status)
{
    int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
    if (code == PGQRS_EXIT_OK || code == PGQRS_EXIT_RETURNED) {
        return PGQRS_END_CLEAN;
    }
    if (code == PGQRS_EXIT_TIMEOUT) {
        const struct run *run = child->place->run;
        return run != NULL && run->cancelled ? PGQRS_END_INTERRUPTED : PGQRS_END_TIMEOUT;
    }
    return child->interrupted  ? PGQRS_END_INTERRUPTED
           : child->kill_asked ? PGQRS_END_KILLED
                               : PGQRS_END_CRASHED;
}

/* A worker that was never ready: the same reason is logged once a queue. */
static void failed_start(struct place *place, const char *why)
{
    struct queue *queue = place->queue;
    if (queue->last_error == NULL || strcmp(queue->last_error, why) != 0) {
        pgqrs_log_error("%s: can not start, trying again: %s", pgqrs_place_name(place), why);
        free(queue->last_error);
        queue->last_error = strdup(why);
    }
    start_after(place, restart_delay(place, -1));
}

/* Its end says nothing against it. */
static void start_as_asked(struct place *place, const struct child *child, const char *why)
{
    if (child->kill_asked) {
        pgqrs_log_warn("%s: %s, starting another one pid=%d generation=%" PRIu64,
                       pgqrs_place_name(place), why, (int)child->pid, child->generation);
        pgqrs_place_try(place); /* of a queue that is failing, too */
    } else {
        pgqrs_log_info("%s: stopped by request, starting another one pid=%d",
                       pgqrs_place_name(place), (int)child->pid);
        pgqrs_place_start(place);
    }
}

static void worker_ended(struct place *place, const struct child *child, int wait_status,
                         const char *why)
{
    struct supervisor *s = place->s;
    int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
    bool ready = child->ready_at_ms != 0;
    report_to_broker(place, child, how_ended(child, wait_status), why);
    if (place->run != NULL) {
        pgqrs_run_worker_ended(place, code, why);
        return;
    }
    if (s->state >= SUPERVISOR_DRAINING) {
        if (code == PGQRS_EXIT_RETURNED && s->exit_status == PGQRS_EXIT_OK) {
            s->exit_status = PGQRS_EXIT_RETURNED; /* a killed one's job is known to the broker */
        }
        if (code != 0 && code != PGQRS_EXIT_RETURNED && ready) {
            pgqrs_log_warn("%s: %s, what it held goes back to the queue pid=%d",
                           pgqrs_place_name(place), why, (int)child->pid);
        }
        return;
    }
    if (place->retiring && code != PGQRS_EXIT_OK) {
        pgqrs_log_warn("%s: %s, while it was to end pid=%d", pgqrs_place_name(place), why,
                       (int)child->pid);
    }
    bool told_to = (child->stop_asked || child->kill_asked) && ready;
    if ((!told_to && pgqrs_reload_canary_died(place, code, why)) || pgqrs_pool_leave(place)) {
        return;
    }
    if (child->outdated) {
        pgqrs_place_try(place); /* of a queue that is failing, too */
        return;
    }
    if (!ready && pgqrs_pool_give_up_replacing(place, why)) {
        return;
    }
    if (child->kill_asked || child->stop_asked) {
        start_as_asked(place, child, why);
        return;
    }
    /* A limit that is kept says nothing against the worker, and paces itself. */
    bool limited = code == PGQRS_EXIT_TIMEOUT;
    if (!limited && pgqrs_failing_died(place, ready, code, why)) {
        return;
    }
    if (!ready) {
        failed_start(place, why);
        return;
    }
    if (limited) {
        pgqrs_log_warn("%s: %s, starting it again pid=%d generation=%" PRIu64,
                       pgqrs_place_name(place), why, (int)child->pid, child->generation);
        pgqrs_place_try(place); /* of a queue that is failing, too */
        return;
    }
    int64_t delay = restart_delay(place, ready_ms(child));
    pgqrs_log_warn("%s: %s, starting it again in %" PRId64 " ms pid=%d generation=%" PRIu64,
                   pgqrs_place_name(place), why, delay, (int)child->pid, child->generation);
    start_after(place, delay);
}

/* Of a broker that was not ready once. A store that does not answer is waited for. */
static bool is_hopeless(const struct place *place, int exit_code)
{
    const struct supervisor *s = place->s;
    if (exit_code == PGQRS_EXIT_AWAY) {
        return pgqrs_mono_ms() - s->started_ms >= s->config->start_timeout_ms;
    }
    return exit_code == PGQRS_EXIT_CONFIG || exit_code == PGQRS_EXIT_UNAVAILABLE ||
           place->restart.failed_starts >= PGQRS_RESTART_START_TRIES;
}

static void broker_ended(struct place *place, const struct child *child, int wait_status,
                         const char *why)
{
    struct supervisor *s = place->s;
    int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
    pgqrs_scaling_forget(s);
    s->store_trouble_ms = 0;
    if (s->state == SUPERVISOR_STOPPING) {
        if (child->interrupted) {
            return; /* it had nothing to store yet */
        }
        bool better_known =
            s->exit_status != PGQRS_EXIT_OK && s->exit_status != PGQRS_EXIT_RETURNED;
        if (code != PGQRS_EXIT_OK && !better_known) {
            s->exit_status = code > 0 ? code : PGQRS_EXIT_FAILURE;
        }
        if (code != PGQRS_EXIT_OK && code != PGQRS_EXIT_RETURNED) {
            pgqrs_log_error("broker: %s; leases that are left are freed at the next start", why);
        }
        return;
    }
    bool never_ready = s->state == SUPERVISOR_STARTING || child->ready_at_ms == 0;
    int64_t delay = restart_delay(place, ready_ms(child));
    if (s->state == SUPERVISOR_STARTING && is_hopeless(place, code)) {
        pgqrs_log_error("broker: %s", why);
        pgqrs_supervisor_fail(s, code == PGQRS_EXIT_AWAY ? PGQRS_EXIT_UNAVAILABLE
                                 : code > 0              ? code
                                                         : PGQRS_EXIT_FAILURE);
        return;
    }
    if (child->interrupted) {
        pgqrs_log_info("broker: %s, starting it again; jobs that run go on pid=%d", why,
                       (int)child->pid);
    } else {
        pgqrs_log_error("broker: %s%s, starting it again in %" PRId64
                        " ms; jobs that run go on pid=%d",
                        never_ready ? "can not start: " : "", why, delay, (int)child->pid);
    }
    start_after(place, delay);
}

static void gateway_ended(struct place *place, const struct child *child, const char *why)
{
    if (!wanted(place)) {
        return;
    }
    int64_t delay = restart_delay(place, ready_ms(child));
    pgqrs_log_error("gateway: %s, starting it again in %" PRId64 " ms pid=%d", why, delay,
                    (int)child->pid);
    start_after(place, delay);
}

void pgqrs_place_ended(struct place *place, int wait_status, const struct rusage *usage)
{
    struct supervisor *s = place->s;
    struct child *child = place->child;
    pgqrs_output_finish(child);
    if (child->confined) {
        child->memory_end = pgqrs_cgroup_ended(&s->cgroup, child->generation);
    }
    char output[PGQRS_OUTPUT_TAIL];
    pgqrs_output_tail(child, output, sizeof output);
    struct child copy = *child;
    copy.beat.job_id = pgqrs_output_job(child);
    copy.output.left = NULL; /* it is destroyed, and so may be the next */
    copy.version = NULL;
    char last_words[PGQRS_LAST_WORDS_MAX + 1];
    char why[PGQRS_LAST_WORDS_MAX + 64];
    char *kill_reason = child->kill_reason;
    child->kill_reason = NULL;
    place->child = NULL;
    pgqrs_child_destroy(child, last_words);

    copy.kill_reason = kill_reason;
    describe(&copy, wait_status, last_words, why, sizeof why);
    pgqrs_log_debug("%s: ended: %s pid=%d generation=%" PRIu64, pgqrs_place_name(place), why,
                    (int)copy.pid, copy.generation);
    struct deaths *deaths = place->role == PGQRS_ROLE_BROKER    ? &s->broker_deaths
                            : place->role == PGQRS_ROLE_GATEWAY ? &s->gateway_deaths
                                                                : &place->queue->deaths;
    if (wait_status != 0 && !copy.interrupted) {
        pgqrs_deaths_add(deaths, &copy, wait_status, usage, why, output);
    }
    if (place->role == PGQRS_ROLE_BROKER) {
        broker_ended(place, &copy, wait_status, why);
    } else if (place->role == PGQRS_ROLE_GATEWAY) {
        gateway_ended(place, &copy, why);
    } else {
        worker_ended(place, &copy, wait_status, why);
    }
    free(kill_reason);
    pgqrs_supervisor_step(s);
}
