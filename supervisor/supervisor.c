/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start, signals, drain, stop. Signal handlers only say what is wanted; the loop does it.
 *
 * A stop goes through three states: DRAINING, the workers finish what they run (after the drain
 * limit they are told to cancel, after the grace they are killed); STOPPING, the broker stores what
 * is left; DONE.
 */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "supervisor/ctl.h"
#include "supervisor/run.h"

#define LISTEN_BACKLOG 1024
#define UNCLOSED_MAX 100
#define BROKER_STOP_MS 6000 /* the broker itself gives up earlier */
#define GATEWAY_STOP_MS 2000
#define DESCRIPTORS_PER_CHILD 10

/* ---- reaping ---- */

static void reap(struct supervisor *s)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) {
            return;
        }
        struct place *place = pgqrs_place_of_pid(s, info.si_pid);
        if (place != NULL) {
            /* What the handler started in its own group goes with it. Its number can not be
             * somebody else's before it is reaped. */
            (void)kill(-info.si_pid, SIGKILL);
        }
        int status = 0;
        struct rusage usage = {0};
        if (wait4(info.si_pid, &status, WNOHANG, &usage) == info.si_pid && place != NULL) {
            pgqrs_place_ended(place, status, &usage); /* a stranger, as PID 1, is only reaped */
        }
    }
}

static void on_sigchld(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    reap(arg);
}

/* ---- heartbeats ---- */

static void check_beat(struct place *place)
{
    struct child *child = place->child;
    int64_t timeout = place->s->config->heartbeat_timeout_ms;
    if (child != NULL && child->state >= CHILD_READY && child->state != CHILD_KILLED &&
        place->s->beat_checked_ms - child->beat_at_ms > timeout) {
        char reason[96];
        (void)snprintf(reason, sizeof reason, "no heartbeat for %" PRId64 " ms", timeout);
        pgqrs_child_kill(child, reason);
    }
}

static void forgive_beat(struct place *place)
{
    if (place->child != NULL) {
        place->child->beat_at_ms = place->s->beat_checked_ms;
    }
}

/* NNG 1.5.2 may never finish with a peer that was killed, nor then with any after it. */
static void check_channels(struct supervisor *s)
{
    if (pgqrs_control_unclosed() >= UNCLOSED_MAX && !s->unclosed_told) {
        s->unclosed_told = true;
        pgqrs_log_error(
            "control channels of processes that have ended are not closed any more, and "
            "take descriptors and memory; start pgqrsd again when it suits");
    }
}

static void on_beat_check(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *s = arg;
    int64_t interval = s->config->heartbeat_interval_ms;
    int64_t now = pgqrs_mono_ms();
    (void)fd;
    (void)what;
    /* When we were stopped ourselves, nobody's beats were read. */
    bool overslept = now - s->beat_checked_ms > 3 * interval;
    s->beat_checked_ms = now;
    if (overslept) {
        forgive_beat(&s->broker);
        forgive_beat(&s->gateway);
        pgqrs_each_worker(s, forgive_beat);
    } else {
        check_beat(&s->broker);
        check_beat(&s->gateway);
        pgqrs_each_worker(s, check_beat);
        pgqrs_pool_recycle(s);
        pgqrs_reload_check(s);
        check_channels(s);
        pgqrs_cgroup_sweep(&s->cgroup);
        pgqrs_scaling_check(s);
        pgqrs_notify_changed(s->notify);
    }
}

/* ---- stop ---- */

static void after(struct supervisor *s, int64_t ms)
{
    const struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    (void)evtimer_add(s->drain_timer, &delay); /* without memory, the second signal still works */
    pgqrs_notify_extend(s->notify, ms);
}

static void drain_place(struct place *place)
{
    if (place->restart_timer != NULL) {
        (void)evtimer_del(place->restart_timer);
    }
    if (place->child != NULL) {
        pgqrs_child_drain(place->child);
    }
}

static void cancel_place(struct place *place)
{
    struct child *child = place->child;
    if (child != NULL && child->state == CHILD_DRAINING) {
        struct pgqrs_buf out = {0};
        pgqrs_encode_worker_cancel(&out, 0);
        pgqrs_child_post(child, &out);
    }
}

static void interrupt_place(struct place *place)
{
    if (place->child != NULL) {
        place->child->interrupted = true;
        pgqrs_child_kill(place->child, "pgqrsd is stopping");
    }
}

static void enter_drain(struct supervisor *s)
{
    s->state = SUPERVISOR_DRAINING;
    pgqrs_notify_changed(s->notify);
    pgqrs_gateway_tell(s);
    if (s->broker.child != NULL && s->broker.child->state >= CHILD_WELCOMED) {
        pgqrs_child_post_empty(s->broker.child, PGQRS_MSG_CHILD_DRAIN);
    }
}

static void begin_drain(struct supervisor *s, const char *why)
{
    pgqrs_log_info("%s: draining %zu workers, for at most %" PRId64 " ms", why,
                   pgqrs_workers_alive(s), s->config->drain_ms);
    enter_drain(s);
    pgqrs_each_worker(s, drain_place);
    after(s, s->config->drain_ms);
    pgqrs_supervisor_step(s);
}

static void kill_workers(struct supervisor *s, const char *why)
{
    pgqrs_log_warn("%s: killing %zu workers, their jobs go back to the queue", why,
                   pgqrs_workers_alive(s));
    enter_drain(s);
    s->cancelled = true;
    pgqrs_each_worker(s, interrupt_place);
    pgqrs_supervisor_step(s);
}

static void on_drain_timer(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)fd;
    (void)what;
    if (s->state == SUPERVISOR_STOPPING && s->broker.child != NULL) {
        pgqrs_child_kill(s->broker.child, "it did not stop in time");
    } else if (s->state == SUPERVISOR_STOPPING && s->gateway.child != NULL) {
        pgqrs_child_kill(s->gateway.child, "it did not stop in time");
    } else if (s->state == SUPERVISOR_DRAINING && !s->cancelled) {
        s->cancelled = true;
        pgqrs_log_warn("drain limit reached: %zu workers still run a job, telling them to cancel "
                       "and killing them in %" PRId64 " ms",
                       pgqrs_workers_alive(s), s->config->cancel_grace_ms);
        pgqrs_each_worker(s, cancel_place);
        after(s, s->config->cancel_grace_ms);
    } else if (s->state == SUPERVISOR_DRAINING) {
        kill_workers(s, "cancelled jobs did not end");
    }
}

/* A worker with nothing to store has ended by itself. */
static void check_outcomes(struct supervisor *s)
{
    const struct child *broker = s->broker.child;
    bool stores = broker != NULL && broker->state >= CHILD_READY && broker->state != CHILD_KILLED;
    if (s->cut_short && !stores) {
        pgqrs_log_error("no broker has stored what became of the jobs of workers that were killed: "
                        "they run again; their leases are freed at the next start");
        s->exit_status = s->exit_status == PGQRS_EXIT_OK || s->exit_status == PGQRS_EXIT_RETURNED
                             ? PGQRS_EXIT_UNAVAILABLE
                             : s->exit_status;
    }
}

void pgqrs_supervisor_step(struct supervisor *s)
{
    struct child *broker = s->broker.child;
    if (s->state == SUPERVISOR_DRAINING && pgqrs_workers_alive(s) == 0) {
        s->state = SUPERVISOR_STOPPING;
        check_outcomes(s);
        if (s->broker.restart_timer != NULL) {
            (void)evtimer_del(s->broker.restart_timer);
        }
        if (broker != NULL && broker->state < CHILD_READY) {
            broker->interrupted = true;
            pgqrs_child_kill(broker, "pgqrsd is stopping");
        } else if (broker != NULL) {
            pgqrs_child_post_empty(broker, PGQRS_MSG_BROKER_STOP);
        }
        after(s, BROKER_STOP_MS);
    }
    if (s->state == SUPERVISOR_STOPPING && s->broker.child == NULL && pgqrs_gateway_stop(s)) {
        after(s, GATEWAY_STOP_MS);
    } else if (s->state == SUPERVISOR_STOPPING && s->broker.child == NULL) {
        s->state = SUPERVISOR_DONE;
        (void)event_base_loopbreak(s->base);
    }
    pgqrs_notify_changed(s->notify);
}

void pgqrs_supervisor_fail(struct supervisor *s, int exit_status)
{
    if (s->state < SUPERVISOR_DRAINING) {
        s->exit_status = exit_status;
        begin_drain(s, "nothing can be served");
    }
}

void pgqrs_supervisor_stop(struct supervisor *s, bool now, const char *why)
{
    if (now && s->state <= SUPERVISOR_DRAINING) {
        kill_workers(s, why);
    } else if (!now && s->state < SUPERVISOR_DRAINING) {
        begin_drain(s, why);
    }
}

/* ---- signals ---- */

static void on_term(evutil_socket_t signal, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)what;
    bool now = signal == SIGINT && s->state == SUPERVISOR_DRAINING;
    pgqrs_supervisor_stop(s, now, now ? "second SIGINT" : signal == SIGINT ? "SIGINT" : "SIGTERM");
}

static void on_quit(evutil_socket_t signal, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)signal;
    (void)what;
    pgqrs_supervisor_stop(s, true, "SIGQUIT");
}

/* CONT, which also comes after STOP, ends no other pause. */
static void on_pause(evutil_socket_t signal, short what, void *arg)
{
    (void)what;
    pgqrs_steer_signal(arg, signal == SIGTSTP);
}

static void on_scale(evutil_socket_t signal, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)what;
    for (size_t i = 0; i < s->queue_count; i++) {
        struct queue *queue = s->queues[i];
        if (queue->removed) {
            continue;
        }
        pgqrs_pool_scale(s, queue, queue->wanted + (signal == SIGTTIN ? 1 : -1),
                         signal == SIGTTIN ? "SIGTTIN" : "SIGTTOU");
    }
}

static void tell_log_level(struct place *place)
{
    if (place->child != NULL && place->run == NULL && place->child->state >= CHILD_WELCOMED &&
        place->child->state != CHILD_KILLED) {
        pgqrs_child_post_log_level(place->child);
    }
}

void pgqrs_supervisor_set_log_level(struct supervisor *s, enum pgqrs_log_level level)
{
    pgqrs_log_set_level(level);
    tell_log_level(&s->broker);
    tell_log_level(&s->gateway);
    pgqrs_each_worker(s, tell_log_level);
}

static void on_usr1(evutil_socket_t signal, short what, void *arg)
{
    struct supervisor *s = arg;
    enum pgqrs_log_level usual =
        s->config->log_level == PGQRS_LOG_DEBUG ? PGQRS_LOG_INFO : s->config->log_level;
    bool on = pgqrs_log_level() != PGQRS_LOG_DEBUG;
    enum pgqrs_log_level level = on ? PGQRS_LOG_DEBUG : usual;
    (void)signal;
    (void)what;
    pgqrs_log_set_level(PGQRS_LOG_DEBUG); /* so that this is seen either way */
    pgqrs_log_info("SIGUSR1: log level %s", pgqrs_log_level_name(level));
    pgqrs_supervisor_set_log_level(s, level);
}

static void on_hup(evutil_socket_t signal, short what, void *arg)
{
    struct supervisor *s = arg;
    struct pgqrs_error err;
    json_t *changes = json_array();
    (void)signal;
    (void)what;
    if (pgqrs_reload(s, changes, &err) < 0) {
        pgqrs_log_error("SIGHUP: nothing is changed: %s", err.text);
    }
    json_decref(changes);
}

static void log_place(struct place *place)
{
    const struct child *child = place->child;
    if (child == NULL) {
        pgqrs_log_info("%s: not running deaths=%u", pgqrs_place_name(place), place->restart.deaths);
        return;
    }
    pgqrs_log_info("%s: %s pid=%d generation=%" PRIu64 " job=%" PRId64 " job_ms=%" PRId64
                   " held=%u settled=%" PRIu64 " beat_age_ms=%" PRId64,
                   pgqrs_place_name(place), pgqrs_child_state_name(child->state), (int)child->pid,
                   child->generation, child->beat.job_id, child->beat.job_ms, child->beat.held,
                   child->beat.settled, pgqrs_mono_ms() - child->beat_at_ms);
}

static void on_usr2(evutil_socket_t signal, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)signal;
    (void)what;
    log_place(&s->broker);
    if (s->http_fd >= 0) {
        log_place(&s->gateway);
    }
    pgqrs_each_worker(s, log_place);
}

void pgqrs_supervisor_hold_signals(void)
{
    sigset_t held;
    (void)sigemptyset(&held);
    (void)sigaddset(&held, SIGTERM);
    (void)sigaddset(&held, SIGINT);
    (void)sigaddset(&held, SIGQUIT);
    if (getpid() == 1) {
        (void)sigprocmask(SIG_SETMASK, &held, NULL);
    }
}

static int watch_signals(struct supervisor *s)
{
    sigset_t none;
    static const struct {
        int number;
        event_callback_fn fn;
    } table[] = {{SIGCHLD, on_sigchld}, {SIGTERM, on_term},  {SIGINT, on_term},
                 {SIGQUIT, on_quit},    {SIGUSR2, on_usr2},  {SIGHUP, on_hup},
                 {SIGUSR1, on_usr1},    {SIGTTIN, on_scale}, {SIGTTOU, on_scale},
                 {SIGTSTP, on_pause},   {SIGCONT, on_pause}};
    (void)signal(SIGPIPE, SIG_IGN); /* a closed peer is an error of write */
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct event *event = evsignal_new(s->base, table[i].number, table[i].fn, s);
        if (event == NULL || event_add(event, NULL) < 0) {
            return -1;
        }
        s->signals[s->signal_count++] = event;
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL); /* our caller's mask is not for us */
    reap(s); /* who exec'd us, such as an entrypoint, may have had children that have ended */
    return 0;
}

/* ---- start ---- */

void pgqrs_supervisor_broker_ready(struct supervisor *s)
{
    struct pgqrs_error err;
    if (s->state == SUPERVISOR_STARTING) {
        s->state = SUPERVISOR_RUNNING;
        /* Not before: another pgqrsd of that name, which has the store, has the socket, too. */
        if (pgqrs_runtime_dir_publish(&s->runtime, s->config->name, &err) < 0) {
            pgqrs_log_error("our sockets have no names for others: %s", err.text);
        }
        pgqrs_each_worker(s, pgqrs_place_start);
    }
}

static int open_job_socket(struct supervisor *s, struct pgqrs_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(s->job_socket, sizeof s->job_socket, "%s/jobs", s->runtime.path);
    memcpy(address.sun_path, s->job_socket, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        s->listen_fd = fcntl(fd, F_DUPFD_CLOEXEC, PGQRS_FD_ABOVE);
        (void)close(fd);
    }
    if (s->listen_fd < 0 ||
        bind(s->listen_fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(s->listen_fd, LISTEN_BACKLOG) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "%s", s->job_socket);
    }
    /* The directory's mode keeps others away; a worker of another user holds the socket from before
     * it became that user, and may write to it. */
    if (chmod(s->job_socket, 0666) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "%s", s->job_socket);
    }
    return 0;
}

static int make_instance(struct supervisor *s, struct pgqrs_error *err)
{
    uint8_t random[16];
    if (getrandom(random, sizeof random, 0) != sizeof random) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "getrandom");
    }
    for (size_t i = 0; i < sizeof random; i++) {
        (void)snprintf(s->instance + 2 * i, 3, "%02x", random[i]);
    }
    return 0;
}

static int make_places(struct supervisor *s, struct pgqrs_error *err)
{
    s->broker = (struct place){.s = s, .role = PGQRS_ROLE_BROKER};
    s->gateway = (struct place){.s = s, .role = PGQRS_ROLE_GATEWAY};
    for (size_t q = 0; q < s->config->queue_count; q++) {
        struct pgqrs_config_queue config = pgqrs_config_take_queue(s->config, q);
        const struct queue *queue = pgqrs_supervisor_add_queue(s, &config, err);
        pgqrs_config_queue_fini(&config);
        if (queue == NULL) {
            return -1;
        }
    }
    s->config->queue_count = 0;
    return 0;
}

/* Each child takes a few descriptors of ours; the soft limit is often lower than need be. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    rlim_t needed = ((rlim_t)PGQRS_WORKERS_MAX + 1) * DESCRIPTORS_PER_CHILD + 64;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < needed) {
        limit.rlim_cur = limit.rlim_max < needed ? limit.rlim_max : needed;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* then fewer children can be started */
    }
}

static bool limits_memory(const struct supervisor *s)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        if (s->queues[i]->config->isolation.memory > 0) {
            return true;
        }
    }
    return false;
}

static int start_timers(struct supervisor *s)
{
    int64_t ms = s->config->heartbeat_interval_ms;
    const struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    s->drain_timer = evtimer_new(s->base, on_drain_timer, s);
    s->beat_timer = event_new(s->base, -1, EV_PERSIST, on_beat_check, s);
    s->beat_checked_ms = pgqrs_mono_ms();
    return s->drain_timer == NULL || s->beat_timer == NULL ||
                   evtimer_add(s->beat_timer, &interval) < 0
               ? -1
               : 0;
}

static int start(struct supervisor *s, struct pgqrs_error *err)
{
    s->base = event_base_new();
    if (make_instance(s, err) < 0 || pgqrs_tally_create(s, err) < 0 || make_places(s, err) < 0 ||
        pgqrs_runtime_dir_create(s->config->runtime_dir, s->instance, &s->runtime, err) < 0 ||
        open_job_socket(s, err) < 0 || pgqrs_gateway_listen(s, err) < 0) {
        return -1;
    }
    if (s->base == NULL || watch_signals(s) < 0 || start_timers(s) < 0) {
        return pgqrs_error_memory(err);
    }
    if (pgqrs_ctl_open(s, &s->ctl, err) < 0 || pgqrs_notify_open(s, &s->notify, err) < 0) {
        return -1;
    }
    raise_descriptor_limit();
    /* What a dead worker leaves behind comes to us, to be reaped. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    pgqrs_log_info("pgqrsd " PGQRS_VERSION ": starting, %zu queue%s pid=%d instance=%s",
                   s->queue_count, s->queue_count == 1 ? "" : "s", (int)getpid(), s->instance);
    if (limits_memory(s)) {
        pgqrs_cgroup_open(&s->cgroup, s->instance);
    }
    s->started_ms = pgqrs_mono_ms();
    s->started_us = pgqrs_wall_us();
    pgqrs_place_start(&s->broker);
    if (s->http_fd >= 0) {
        pgqrs_place_start(&s->gateway);
    }
    return 0;
}

static void supervisor_fini(struct supervisor *s)
{
    if (s->broker.restart_timer != NULL) {
        event_free(s->broker.restart_timer);
    }
    if (s->gateway.restart_timer != NULL) {
        event_free(s->gateway.restart_timer);
    }
    pgqrs_runs_fini(s);
    pgqrs_supervisor_free_queues(s);
    pgqrs_tally_destroy(s);
    pgqrs_deaths_fini(&s->broker_deaths);
    pgqrs_deaths_fini(&s->gateway_deaths);
    pgqrs_ctl_close(&s->ctl);
    pgqrs_notify_close(&s->notify);
    struct unreported_end *end;
    while ((end = STAILQ_FIRST(&s->unreported)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->unreported, link);
        free(end);
    }
    for (size_t i = 0; i < s->signal_count; i++) {
        event_free(s->signals[i]);
    }
    if (s->drain_timer != NULL) {
        event_free(s->drain_timer);
    }
    if (s->beat_timer != NULL) {
        event_free(s->beat_timer);
    }
    if (s->base != NULL) {
        event_base_free(s->base);
    }
    if (s->listen_fd >= 0) {
        (void)close(s->listen_fd);
    }
    if (s->http_fd >= 0) {
        (void)close(s->http_fd);
    }
    pgqrs_cgroup_close(&s->cgroup);
    pgqrs_runtime_dir_remove(&s->runtime);
    pgqrs_control_end();
}

int pgqrs_supervisor_run(struct pgqrs_config *config, const char *config_path,
                         struct pgqrs_error *err)
{
    struct supervisor s = {.config = config,
                           .config_path = config_path,
                           .listen_fd = -1,
                           .http_fd = -1,
                           .tally_fd = -1,
                           .cgroup = PGQRS_CGROUP_NONE};
    STAILQ_INIT(&s.unreported);
    LIST_INIT(&s.runs);
    int rc = start(&s, err);
    if (rc == 0 && event_base_dispatch(s.base) < 0) {
        rc = pgqrs_error_set(err, PGQRS_ERR_FAILED, "event loop failed");
    }
    if (rc == 0) {
        rc = s.exit_status;
        pgqrs_log_info("pgqrsd: stopped, exit status %d", rc);
    }
    supervisor_fini(&s);
    return rc;
}
