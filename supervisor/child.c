/* SPDX-License-Identifier: Apache-2.0 */
/* One process, from its start to its end. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "supervisor/run.h"

#define MESSAGES_PER_TURN 32
#define OUTBOX_MAX 10000
#define FLUSH_MS 5

static const char *const state_names[CHILD_STATE_COUNT] = {
    [CHILD_NONE] = "none",   [CHILD_STARTING] = "starting", [CHILD_WELCOMED] = "loading",
    [CHILD_READY] = "ready", [CHILD_DRAINING] = "draining", [CHILD_KILLED] = "killed",
};

const char *pgqrs_child_state_name(enum child_state state)
{
    return state_names[state];
}

/* The only place where a state changes. States only go forward. */
static void set_state(struct child *child, enum child_state state)
{
    if (state <= child->state) {
        return;
    }
    pgqrs_log_debug("%s: %s to %s pid=%d generation=%" PRIu64, pgqrs_place_name(child->place),
                    state_names[child->state], state_names[state], (int)child->pid,
                    child->generation);
    child->state = state;
}

/* ---- messages out ---- */

static void flush(struct child *child)
{
    const struct timeval again = {.tv_usec = FLUSH_MS * 1000};
    struct out_message *message;
    while ((message = STAILQ_FIRST(&child->outbox)) != NULL) {
        struct pgqrs_error err;
        int rc = pgqrs_control_send(child->control, &message->frame, &err);
        if (rc < 0 && err.code == PGQRS_ERR_AGAIN) {
            (void)evtimer_add(child->flush, &again);
            return;
        }
        if (rc < 0) {
            pgqrs_child_kill(child, err.text); /* a message that is lost is never made up for */
            return;
        }
        STAILQ_REMOVE_HEAD(&child->outbox, link);
        child->outbox_count--;
        pgqrs_buf_fini(&message->frame);
        free(message);
    }
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    flush(arg);
}

void pgqrs_child_post(struct child *child, struct pgqrs_buf *frame)
{
    struct out_message *message = malloc(sizeof *message);
    if (message == NULL || frame->failed || child->outbox_count >= OUTBOX_MAX) {
        free(message);
        pgqrs_buf_fini(frame);
        pgqrs_child_kill(child, "it does not read its control messages");
        return;
    }
    message->frame = *frame;
    STAILQ_INSERT_TAIL(&child->outbox, message, link);
    child->outbox_count++;
    flush(child);
}

void pgqrs_child_post_empty(struct child *child, enum pgqrs_msg_type type)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_empty(&out, type);
    pgqrs_child_post(child, &out);
}

void pgqrs_child_kill(struct child *child, const char *reason)
{
    if (child->state == CHILD_KILLED) {
        return;
    }
    free(child->kill_reason);
    child->kill_reason = strdup(reason);
    set_state(child, CHILD_KILLED);
    (void)kill(child->pid, SIGKILL); /* it is our child and not reaped: the pid is its own */
}

void pgqrs_child_drain(struct child *child)
{
    if (child->state == CHILD_STARTING) {
        child->interrupted = true; /* it has no job yet and can not hear us */
        pgqrs_child_kill(child, "it is not needed any more");
    } else if (child->state == CHILD_WELCOMED || child->state == CHILD_READY) {
        set_state(child, CHILD_DRAINING);
        pgqrs_child_post_empty(child, PGQRS_MSG_CHILD_DRAIN);
    }
}

void pgqrs_child_post_ended(struct child *broker, uint64_t generation, enum pgqrs_end how,
                            const char *reason)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_worker_ended(
        &out, &(struct pgqrs_worker_ended){.generation = generation, .how = how, .reason = reason});
    pgqrs_child_post(broker, &out);
}

void pgqrs_child_post_log_level(struct child *child)
{
    struct pgqrs_buf out = {0};
    pgqrs_encode_log_level(&out, (uint8_t)pgqrs_log_level());
    pgqrs_child_post(child, &out);
}

/* ---- messages in ---- */

void pgqrs_child_describe_worker(const struct child *child, struct pgqrs_worker_started *m)
{
    m->generation = child->generation;
    m->slot = child->place->slot;
    m->pid = (uint32_t)child->pid;
    m->queue = child->place->queue->name;
    memcpy(m->token, child->token, sizeof m->token);
    m->only_message = child->place->run == NULL ? 0 : child->place->run->message_id;
}

struct pgqrs_isolation pgqrs_worker_isolation(const struct pgqrs_config_isolation *c)
{
    return (struct pgqrs_isolation){
        .uid = c->uid,
        .gid = c->gid,
        .directory = c->directory,
        .nice = (uint32_t)c->nice,
        .open_files = c->open_files,
        .processes = c->processes,
        .file_size = c->file_size,
        .memory = c->memory,
        .core = c->core < 0 ? 0 : c->core,
        .limit_core = c->core >= 0,
        .no_new_privileges = c->no_new_privileges,
        .seccomp = c->seccomp,
    };
}

/* Before its welcome no worker knows its plugin; what it has by then is not counted. */
static void confine(struct child *child, struct pgqrs_isolation *isolation)
{
    child->memory_limit = isolation->memory;
    child->confined =
        isolation->memory > 0 && pgqrs_cgroup_confine(&child->place->s->cgroup, child->generation,
                                                      child->pid, isolation->memory);
    isolation->memory = child->confined ? 0 : isolation->memory;
}

static void welcome_worker(struct child *child)
{
    const struct supervisor *s = child->place->s;
    const struct pgqrs_config_queue *queue = &child->version->config;
    struct pgqrs_worker_welcome m = {
        .queue = queue->name,
        .handler = child->pinned ? PGQRS_FD_PLUGIN_PATH : queue->handler,
        .settings = queue->settings,
        .job_socket = s->job_socket,
        .slot = child->place->slot,
        .prefetch = child->place->run == NULL ? (uint32_t)queue->prefetch : 1,
        .max_attempts = (uint32_t)queue->max_attempts,
        .heartbeat_ms = s->config->heartbeat_interval_ms,
        .timeout_ms = queue->timeout_ms,
        .cancel_grace_ms = queue->cancel_grace_ms,
        .isolation = pgqrs_worker_isolation(&queue->isolation),
        .log_lines = (uint32_t)queue->log_lines,
        .once = child->place->run != NULL,
    };
    confine(child, &m.isolation);
    memcpy(m.token, child->token, sizeof m.token);
    struct pgqrs_buf out = {0};
    pgqrs_encode_worker_welcome(&out, &m);
    pgqrs_child_post(child, &out);
}

/* More than this makes no difference. */
static uint32_t load_max(const struct pgqrs_config_queue *queue)
{
    int64_t most = queue->consumers_max * queue->consumers_backlog;
    return (uint32_t)(most < PGQRS_LOAD_MAX ? most : PGQRS_LOAD_MAX);
}

struct pgqrs_queue_settings pgqrs_configured_settings(const struct pgqrs_config_queue *queue)
{
    return (struct pgqrs_queue_settings){
        .name = queue->name,
        .max_attempts = (uint32_t)queue->max_attempts,
        .max_crashes = (uint32_t)queue->max_crashes,
        .retry_strategy = (uint8_t)queue->retry_strategy,
        .retry_jitter = queue->retry_jitter,
        .delete_done = queue->delete_done,
        .sql = queue->sql,
        .retry_base_ms = queue->retry_base_ms,
        .retry_max_ms = queue->retry_max_ms,
        .keep_done_ms = queue->keep_done_ms,
        .keep_failed_ms = queue->keep_failed_ms,
        .worker_uid = queue->isolation.uid,
        .load_max = load_max(queue),
    };
}

struct pgqrs_queue_settings pgqrs_queue_settings(const struct queue *queue)
{
    struct pgqrs_queue_settings settings = pgqrs_configured_settings(queue->config);
    settings.paused = pgqrs_queue_is_paused(queue);
    settings.place = queue->place;
    return settings;
}

/* The workers that live, so that a broker that was started again keeps their leases, and those that
 * have ended meanwhile, so that it takes what they may have left in its socket. */
static size_t list_workers(struct supervisor *s, struct pgqrs_worker_started *out)
{
    size_t n = 0;
    for (size_t q = 0; q < s->queue_count; q++) {
        for (size_t i = 0; i < s->queues[q]->place_count; i++) {
            const struct child *worker = s->queues[q]->places[i]->child;
            if (worker != NULL) {
                pgqrs_child_describe_worker(worker, &out[n++]);
            }
        }
    }
    const struct run *run;
    LIST_FOREACH(run, &s->runs, link)
    {
        if (run->place.child != NULL) {
            pgqrs_child_describe_worker(run->place.child, &out[n++]);
        }
    }
    const struct unreported_end *end;
    STAILQ_FOREACH(end, &s->unreported, link)
    {
        out[n++] = end->worker;
    }
    return n;
}

static void report_ends(struct child *broker)
{
    struct supervisor *s = broker->place->s;
    struct unreported_end *end;
    while ((end = STAILQ_FIRST(&s->unreported)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->unreported, link);
        s->unreported_count--;
        pgqrs_child_post_ended(broker, end->worker.generation, end->how, end->reason);
        free(end);
    }
}

static void welcome_broker(struct child *child)
{
    struct supervisor *s = child->place->s;
    struct pgqrs_worker_started *workers =
        calloc(pgqrs_workers_alive(s) + s->unreported_count + 1, sizeof *workers);
    struct pgqrs_queue_settings *queues = calloc(s->queue_count + 1, sizeof *queues);
    struct pgqrs_buf out = {0};
    if (workers == NULL || queues == NULL) {
        out.failed = true; /* the broker is killed, and started again */
    } else {
        for (size_t i = 0; i < s->queue_count; i++) {
            queues[i] = pgqrs_queue_settings(s->queues[i]);
        }
        child->welcome_serial = s->queues_serial;
        const char *wake_dsn = s->config->wake_dsn;
        pgqrs_encode_broker_welcome(&out, &(struct pgqrs_broker_welcome){
                                              .instance = s->instance,
                                              .name = s->config->name,
                                              .dsn = s->config->dsn,
                                              .schema = s->config->schema,
                                              .wake_dsn = wake_dsn == NULL ? "" : wake_dsn,
                                              .foreign_stale_ms = s->config->foreign_stale_ms,
                                              .lease_ms = s->config->lease_ms,
                                              .poll_ms = s->config->poll_ms,
                                              .heartbeat_ms = s->config->heartbeat_interval_ms,
                                              .synchronous_full = s->config->synchronous_full,
                                              .draining = s->state >= SUPERVISOR_DRAINING,
                                              .queues = queues,
                                              .queue_count = s->queue_count,
                                              .workers = workers,
                                              .worker_count = list_workers(s, workers),
                                          });
    }
    free(workers);
    free(queues);
    pgqrs_child_post(child, &out);
    pgqrs_schedules_tell(child->place->s);
    report_ends(child);
}

static void refuse(struct child *child, const char *why)
{
    struct pgqrs_buf out = {0};
    pgqrs_log_error("%s: %s pid=%d", pgqrs_place_name(child->place), why, (int)child->pid);
    pgqrs_encode_refuse(&out, why);
    pgqrs_child_post(child, &out);
}

static void on_hello(struct child *child, const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    struct pgqrs_child_hello hello;
    if (pgqrs_decode_child_hello(frame, &hello, err) < 0) {
        pgqrs_child_kill(child, err->text);
        return;
    }
    if (child->state != CHILD_STARTING || hello.generation != child->generation ||
        hello.pid != (uint32_t)child->pid || hello.role != child->place->role ||
        pgqrs_control_peer_pid(child->control) != child->pid) {
        pgqrs_child_kill(child, "its hello is not that of the process that was started");
        return;
    }
    if (hello.major != PGQRS_IPC_MAJOR || strcmp(hello.version, PGQRS_VERSION) != 0) {
        char why[256];
        (void)snprintf(why, sizeof why,
                       "found version %s (protocol %u), expected " PGQRS_VERSION
                       " (protocol %d): programs of two releases are mixed",
                       hello.version, hello.major, PGQRS_IPC_MAJOR);
        refuse(child, why);
        return;
    }
    set_state(child, CHILD_WELCOMED);
    child->beat_at_ms = pgqrs_mono_ms();
    if (child->place->role == PGQRS_ROLE_BROKER) {
        /* To complete the schema of a large database takes its time. */
        (void)evtimer_del(child->deadline);
        welcome_broker(child);
    } else if (child->place->role == PGQRS_ROLE_GATEWAY) {
        pgqrs_gateway_welcome(child);
    } else {
        welcome_worker(child);
    }
    if (child->log_level != pgqrs_log_level() &&
        child->place->run == NULL) { /* it changed since the start */
        pgqrs_child_post_log_level(child);
    }
}

static void on_ready(struct child *child)
{
    if (child->state < CHILD_WELCOMED || child->state == CHILD_KILLED || child->ready_at_ms != 0) {
        return;
    }
    child->ready_at_ms = child->beat_at_ms = pgqrs_mono_ms();
    (void)evtimer_del(child->deadline);
    set_state(child, CHILD_READY);
    struct supervisor *s = child->place->s;
    pgqrs_place_ready(child->place);
    pgqrs_notify_changed(s->notify);
    pgqrs_gateway_tell(s);
}

static void on_complaint(struct child *child, const struct pgqrs_frame *frame,
                         struct pgqrs_error *err)
{
    struct pgqrs_complaint m;
    if (pgqrs_decode_complaint(frame, &m, err) < 0) {
        pgqrs_child_kill(child, err->text);
        return;
    }
    struct place *place = pgqrs_place_of_generation(child->place->s, m.generation);
    if (place != NULL && place->role == PGQRS_ROLE_WORKER) {
        char reason[1100];
        (void)snprintf(reason, sizeof reason, "it broke the protocol: %s", m.text);
        pgqrs_child_kill(place->child, reason);
    }
}

/* Of the broker, for a worker. */
static void on_order(struct child *broker, const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    struct pgqrs_order m;
    struct pgqrs_buf out = {0};
    if (pgqrs_decode_order(frame, &m, err) < 0) {
        pgqrs_child_kill(broker, err->text);
        return;
    }
    struct place *place = pgqrs_place_of_generation(broker->place->s, m.generation);
    struct child *child = place == NULL ? NULL : place->child;
    if (child == NULL || place->role != PGQRS_ROLE_WORKER || child->state < CHILD_WELCOMED ||
        child->state == CHILD_KILLED) {
        return;
    }
    bool stop = m.kind == PGQRS_ORDER_STOP;
    m.kind = stop ? PGQRS_ORDER_INTERRUPT : m.kind;
    pgqrs_encode_order(&out, PGQRS_MSG_WORKER_ORDER, &m);
    pgqrs_child_post(child, &out);
    if (stop) {
        child->stop_asked = true;
        pgqrs_child_drain(child);
    }
}

static void on_queues_known(struct child *child, const struct pgqrs_frame *frame,
                            struct pgqrs_error *err)
{
    uint32_t serial;
    if (pgqrs_decode_queues_known(frame, &serial, err) < 0) {
        pgqrs_child_kill(child, err->text);
        return;
    }
    pgqrs_reload_known(child->place->s, serial);
}

static void on_queue_load(struct child *child, const struct pgqrs_frame *frame,
                          struct pgqrs_error *err)
{
    struct pgqrs_queue_load load;
    if (pgqrs_decode_queue_load(frame, &load, err) < 0) {
        pgqrs_child_kill(child, err->text);
        return;
    }
    pgqrs_scaling_load(child->place->s, &load);
}

static void on_tally(struct child *child, const struct pgqrs_frame *frame, struct pgqrs_error *err)
{
    struct pgqrs_tally m;
    if (pgqrs_decode_tally(frame, &m, err) < 0) {
        pgqrs_child_kill(child, err->text);
        return;
    }
    child->place->s->store_trouble_ms = m.trouble_ms;
}

static void on_run_ended(struct child *child, const struct pgqrs_frame *frame,
                         struct pgqrs_error *err)
{
    struct pgqrs_run_ended m;
    if (pgqrs_decode_run_ended(frame, &m, err) < 0) {
        pgqrs_child_kill(child, err->text);
        return;
    }
    pgqrs_run_told(child->place->s, &m);
}

static void dispatch(struct child *child, const struct pgqrs_frame *frame)
{
    struct pgqrs_error err;
    switch (frame->type) {
    case PGQRS_MSG_CHILD_HELLO:
        on_hello(child, frame, &err);
        return;
    case PGQRS_MSG_CHILD_READY:
        on_ready(child);
        return;
    case PGQRS_MSG_CHILD_BEAT:
        if (pgqrs_decode_child_beat(frame, &child->beat, &err) < 0) {
            pgqrs_child_kill(child, err.text);
        }
        child->beat_at_ms = pgqrs_mono_ms();
        child->beat_serial = child->place->s->known_serial;
        return;
    case PGQRS_MSG_COMPLAINT:
        on_complaint(child, frame, &err);
        return;
    case PGQRS_MSG_QUEUES_KNOWN:
        on_queues_known(child, frame, &err);
        return;
    case PGQRS_MSG_QUEUE_LOAD:
        on_queue_load(child, frame, &err);
        return;
    case PGQRS_MSG_TALLY:
        on_tally(child, frame, &err);
        return;
    case PGQRS_MSG_ORDER:
        on_order(child, frame, &err);
        return;
    case PGQRS_MSG_RUN_ENDED:
        on_run_ended(child, frame, &err);
        return;
    case PGQRS_MSG_NONE:
    case PGQRS_MSG_REFUSE:
    case PGQRS_MSG_BROKER_WELCOME:
    case PGQRS_MSG_WORKER_WELCOME:
    case PGQRS_MSG_CHILD_DRAIN:
    case PGQRS_MSG_WORKER_CANCEL:
    case PGQRS_MSG_WORKER_STARTED:
    case PGQRS_MSG_WORKER_ENDED:
    case PGQRS_MSG_BROKER_STOP:
    case PGQRS_MSG_JOB_HELLO:
    case PGQRS_MSG_JOB_WELCOME:
    case PGQRS_MSG_JOB_LEASES:
    case PGQRS_MSG_JOB_RESULTS:
    case PGQRS_MSG_JOB_SETTLED:
    case PGQRS_MSG_JOB_FLOW:
    case PGQRS_MSG_JOB_FLOWED:
    case PGQRS_MSG_JOB_CAPACITY:
    case PGQRS_MSG_CLIENT_HELLO:
    case PGQRS_MSG_CLIENT_WELCOME:
    case PGQRS_MSG_STORE_CALL:
    case PGQRS_MSG_STORE_REPLY:
    case PGQRS_MSG_WORKER_ORDER:
    case PGQRS_MSG_LOG_LEVEL:
    case PGQRS_MSG_BROKER_QUEUES:
    case PGQRS_MSG_BROKER_SCHEDULES:
    case PGQRS_MSG_GATEWAY_WELCOME:
    case PGQRS_MSG_CLIENT_WATCH:
    case PGQRS_MSG_CLIENT_WAKE:
    case PGQRS_MSG_GATEWAY_LOOK:
    case PGQRS_MSG_COUNT:
        break;
    }
    pgqrs_child_kill(child, "it sent a message that is not for pgqrsd");
}

static void on_control(evutil_socket_t fd, short what, void *arg)
{
    struct child *child = arg;
    (void)fd;
    (void)what;
    for (int i = 0; i < MESSAGES_PER_TURN; i++) {
        struct pgqrs_frame frame;
        struct pgqrs_error err;
        int got = pgqrs_control_recv(child->control, child->place->role, PGQRS_ROLE_SUPERVISOR,
                                     &frame, &err);
        if (got == 0) {
            return;
        }
        if (got < 0) {
            pgqrs_child_kill(child, err.text);
            return;
        }
        dispatch(child, &frame);
    }
}

/* ---- start and end ---- */

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct child *child = arg;
    char reason[128];
    (void)fd;
    (void)what;
    (void)snprintf(reason, sizeof reason, "it was not ready after %" PRId64 " ms (start_timeout)",
                   child->place->s->config->start_timeout_ms);
    pgqrs_child_kill(child, reason);
}

static int start_events(struct child *child)
{
    struct supervisor *s = child->place->s;
    int64_t ms = s->config->start_timeout_ms;
    const struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    child->control_event = event_new(s->base, pgqrs_control_fd(child->control),
                                     EV_READ | EV_PERSIST, on_control, child);
    child->deadline = evtimer_new(s->base, on_deadline, child);
    child->flush = evtimer_new(s->base, on_flush, child);
    return child->control_event == NULL || child->deadline == NULL || child->flush == NULL ||
                   event_add(child->control_event, NULL) < 0 ||
                   evtimer_add(child->deadline, &limit) < 0
               ? -1
               : 0;
}

int pgqrs_child_create(struct place *place, struct pgqrs_error *err)
{
    struct supervisor *s = place->s;
    struct child *child = calloc(1, sizeof *child);
    char last_words[PGQRS_LAST_WORDS_MAX + 1];
    char url[128];
    if (child == NULL) {
        return pgqrs_error_memory(err);
    }
    child->place = place;
    child->lifeline = -1;
    child->output = (struct child_output){.fds = {-1, -1}};
    child->log_level = pgqrs_log_level();
    child->generation = ++s->generations;
    child->beat_at_ms = pgqrs_mono_ms();
    int plugin = -1;
    if (place->queue != NULL) {
        child->version = pgqrs_version_of(place);
        child->version->users++;
        child->pinned = pgqrs_version_is_pinned(child->version);
        plugin = child->pinned ? child->version->plugin.fd : -1;
    }
    STAILQ_INIT(&child->outbox);
    (void)snprintf(url, sizeof url, "ipc://%s/c%" PRIu64, s->runtime.path, child->generation);
    if (getrandom(child->token, sizeof child->token, 0) != sizeof child->token) {
        (void)pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "getrandom");
        goto failed;
    }
    if (pgqrs_control_listen(url, &child->control, err) < 0) {
        goto failed;
    }
    if (start_events(child) < 0) {
        (void)pgqrs_error_memory(err);
        goto failed;
    }
    if (pgqrs_spawn(place, child->generation, url, plugin, &child->pid, &child->lifeline,
                    &child->output, err) < 0) {
        goto failed;
    }
    set_state(child, CHILD_STARTING);
    place->child = child;
    if (place->role == PGQRS_ROLE_WORKER && s->broker.child != NULL &&
        s->broker.child->state >= CHILD_WELCOMED) {
        struct pgqrs_worker_started m;
        struct pgqrs_buf out = {0};
        pgqrs_child_describe_worker(child, &m);
        pgqrs_encode_worker_started(&out, &m);
        pgqrs_child_post(s->broker.child, &out);
    }
    return 0;
failed:
    pgqrs_child_destroy(child, last_words);
    return -1;
}

static void free_event(struct event *event)
{
    if (event != NULL) {
        event_free(event);
    }
}

void pgqrs_child_destroy(struct child *child, char last_words[PGQRS_LAST_WORDS_MAX + 1])
{
    ssize_t n = child->lifeline < 0
                    ? -1
                    : recv(child->lifeline, last_words, PGQRS_LAST_WORDS_MAX, MSG_DONTWAIT);
    last_words[n > 0 ? n : 0] = 0;
    if (child->lifeline >= 0) {
        (void)close(child->lifeline);
    }
    free_event(child->control_event);
    free_event(child->deadline);
    free_event(child->flush);
    pgqrs_control_close(&child->control);
    struct out_message *message;
    while ((message = STAILQ_FIRST(&child->outbox)) != NULL) {
        STAILQ_REMOVE_HEAD(&child->outbox, link);
        pgqrs_buf_fini(&message->frame);
        free(message);
    }
    pgqrs_output_close(&child->output);
    pgqrs_version_release(&child->version);
    free(child->kill_reason);
    free(child);
}
