/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_SUPERVISOR_SUPERVISOR_H
#define PGQRS_SUPERVISOR_SUPERVISOR_H

/*
 * The supervisor's state, shared by its files. One thread, one libevent loop; it never opens a
 * store, never loads a plugin and never blocks.
 *
 *   spawn.c        fork and exec of one child
 *   output.c       what a worker's plugin writes to standard output and error
 *   child.c        one process from its start to its end: messages, deadlines, last words
 *   places.c       where processes run, and when one is started again
 *   failing.c      a queue whose workers can not start or die too often
 *   queue.c        a queue, and the version of configuration and plugin it runs
 *   reload.c       a new configuration, tried on one worker first
 *   schedules.c    what the broker is told of them
 *   scaling.c      how many workers follow from what waits
 *   pool.c         how many places a queue has: scaling, and replacing old workers
 *   run.c          one message in a worker of its own
 *   cgroup.c       groups that keep workers to a limit of memory
 *   steer.c        what the operator wants: pauses, a drain
 *   deaths.c       the last deaths
 *   status.c       what we know, as JSON
 *   tally.c        what brokers count
 *   ctl.c          the operator's socket
 *   gateway.c      the process that answers HTTP, and its socket
 *   notify.c       what the service manager is told
 *   check.c        pgqrsd --check, with check_child.c and check_host.c
 *   supervisor.c   signals, start, drain, stop
 *
 * A place is one position that should have a process: the broker, or worker 2 of a queue. A child
 * is the process that is there now; places outlive children. Those of a queue come and go.
 */

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <event2/event.h>
#include <jansson.h>

#include "config/config.h"
#include "ipc/control.h"
#include "ipc/output_page.h"
#include "ipc/spawn_contract.h"
#include "ipc/tally_page.h"
#include "supervisor/cgroup.h"
#include "supervisor/notify.h"
#include "supervisor/restart_policy.h"
#include "supervisor/runtime_dir.h"

struct supervisor;
struct place;
struct run;
LIST_HEAD(run_list, run);

enum child_state {
    CHILD_NONE = 0,
    CHILD_STARTING, /* exec'd; no hello yet */
    CHILD_WELCOMED, /* said hello, is loading its plugin or opening its store */
    CHILD_READY,    /* works */
    CHILD_DRAINING, /* was told to finish and end */
    CHILD_KILLED,   /* SIGKILL was sent; waiting for the kernel */
    CHILD_STATE_COUNT
};

struct out_message {
    STAILQ_ENTRY(out_message) link;
    struct pgqrs_buf frame;
};
STAILQ_HEAD(outbox, out_message);

struct child_output {                 /* all of it absent: not a worker */
    struct pgqrs_output_page *shared; /* with the worker, which writes there */
    struct pgqrs_output_page *left;   /* its copy, once the worker is dead */
    int fds[PGQRS_STREAM_COUNT];      /* where what it has not read can be read */
};

struct child {
    struct place *place;
    enum child_state state;
    uint64_t generation;
    pid_t pid;
    int lifeline; /* our end */
    struct pgqrs_control *control;
    struct event *control_event, *deadline, *flush;
    struct outbox outbox; /* messages that NNG has no room for yet */
    size_t outbox_count;
    uint8_t token[PGQRS_TOKEN_SIZE];
    int64_t ready_at_ms, beat_at_ms; /* monotonic; 0 never */
    struct pgqrs_child_beat beat;    /* the last one */
    bool interrupted;                /* we end it for a stop: its job has not spent its attempt */
    bool stop_asked;                 /* somebody has marked its row stopped */
    bool kill_asked;                 /* somebody has wanted it: its job has spent its attempt */
    char *kill_reason;               /* why we killed it; null: we did not */
    struct child_output output;
    int64_t memory_limit; /* bytes; 0: none, or it was not welcomed yet */
    bool confined;        /* a control group keeps the limit */
    enum pgqrs_cgroup_end memory_end;
    enum pgqrs_log_level log_level; /* with which it was started */
    struct version *version;        /* of its queue, with which it was started */
    bool outdated;                  /* we end it before it is ready: there is a newer version */
    bool pinned;                    /* its plugin is the file we hold, not the one at the path */
    uint32_t welcome_serial;        /* of the queues that its welcome knew; of a broker */
    uint32_t beat_serial;           /* of those it knew at its last beat; of a broker */
};

struct pgqrs_recycle { /* when the worker at hand is to be replaced; each 0: never */
    int64_t jobs, at_ms, memory;
    int64_t not_before_ms; /* its last replacement could not start */
};

struct failing {         /* of a queue; see failing.c */
    struct event *retry; /* null: it is not failing */
    char *why;
    int64_t since_us;                          /* wall clock */
    bool cannot_start;                         /* a worker that is ready is enough to end it */
    uint64_t generation;                       /* workers up to this one lived before */
    int64_t deaths_ms[PGQRS_RESTARTS_MAX + 1]; /* the last ones, a ring */
    size_t deaths;
};

struct scaling {   /* of a queue whose number of workers follows its load; see scaling.c */
    int64_t ready; /* jobs that wait, as the broker said last */
    int64_t waiting_since_ms; /* monotonic; 0: none waits */
    int64_t window_ms, peak;  /* how many workers were needed at most since this time */
};

#define PGQRS_DEATHS_KEPT 20

struct death {
    int64_t at_us; /* wall clock */
    uint32_t slot;
    pid_t pid;
    uint64_t generation;
    int wait_status;
    bool asked;     /* somebody has killed it */
    int64_t job_id; /* that ran; 0: none */
    uint64_t settled;
    int64_t ready_ms;    /* for so long; -1: never */
    int64_t peak_memory; /* bytes */
    char *why;
    char *core;   /* its file; null: none was written */
    char *output; /* its last lines; null: none */
};

enum death_reason {
    DEATH_EXIT,    /* it exited with a status */
    DEATH_SIGNAL,  /* it crashed, or was killed from outside */
    DEATH_TIMEOUT, /* its job did not stop at its limit */
    DEATH_MEMORY,  /* the kernel killed it for its memory */
    DEATH_KILLED,  /* we killed it, for its silence or what it said */
    DEATH_REASON_COUNT
};

struct deaths {
    struct death ring[PGQRS_DEATHS_KEPT];
    size_t count; /* of all time */
    uint64_t reasons[DEATH_REASON_COUNT];
};

struct plugin_file {
    int fd; /* -1: it could not be opened */
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct version {    /* what a queue's workers run */
    uint32_t users; /* the queue, and processes that were started with it */
    struct pgqrs_config_queue config;
    struct plugin_file plugin;
    int64_t since_us; /* wall clock; when it came */
    bool proven;      /* a worker of it has been ready */
};

struct queue {
    struct supervisor *s;
    char *name;
    struct version *version;
    const struct pgqrs_config_queue *config; /* the version's */
    struct version *next;                    /* what the canary runs; null: no reload goes on */
    struct place *canary;
    char *refused;           /* why the last new version was not taken; null: it was */
    int64_t canary_since_ms; /* since when one has worked there, monotonic; 0: not yet */
    uint32_t serial;         /* workers are not started before the broker knows this one */
    bool rolling;            /* workers of an older version are being replaced */
    bool paused;             /* its workers are given nothing, until somebody says otherwise */
    bool removed;            /* not in the configuration any more: it goes with its last worker, or
                                the pause */
    int64_t wanted;          /* so many workers */
    struct place **places;   /* in the order in which they were added */
    size_t place_count;
    struct failing failing;
    struct scaling scaling;
    struct deaths deaths;
    uint32_t place;   /* in the counters */
    char *last_error; /* of a failed start, so that the same one is reported once */
};

struct place {
    struct supervisor *s;
    enum pgqrs_role role;
    struct queue *queue; /* null for the broker and the gateway */
    uint32_t slot;
    struct child *child; /* null: nobody is there */
    struct pgqrs_restart restart;
    struct event *restart_timer;
    bool retiring;          /* its worker is told to end, and the place goes with it */
    struct place *replaces; /* which retires when the worker here is ready; null: none */
    struct pgqrs_recycle recycle;
    struct run *run; /* whose place it is, and not its queue's; null: an ordinary one */
};

enum supervisor_state {
    SUPERVISOR_STARTING, /* the broker has not been ready yet; no worker was started */
    SUPERVISOR_RUNNING,
    SUPERVISOR_DRAINING, /* workers were told to finish */
    SUPERVISOR_STOPPING, /* no worker is left; the broker stores what is left and ends */
    SUPERVISOR_DONE,
};

/* A worker that ended while no broker could be told; the next one is. */
struct unreported_end {
    STAILQ_ENTRY(unreported_end) link;
    struct pgqrs_worker_started worker; /* its queue is not freed before */
    enum pgqrs_end how;
    char reason[512];
};
STAILQ_HEAD(unreported_ends, unreported_end);

struct supervisor {
    struct pgqrs_config *config; /* its queues were taken out */
    const char *config_path;
    enum supervisor_state state;
    struct event_base *base;
    struct pgqrs_runtime_dir runtime;
    struct pgqrs_cgroup cgroup;
    char instance[33];
    char job_socket[108];
    int listen_fd;
    int http_fd; /* -1: there is no gateway */
    int tally_fd;
    struct pgqrs_tally_page *tally;
    uint32_t tally_next;  /* the place to look at next */
    uint64_t generations; /* the last one that was given out */
    struct place broker;
    struct deaths broker_deaths;
    struct place gateway;
    struct deaths gateway_deaths;
    struct ctl *ctl;
    struct notify *notify; /* null: no service manager listens */
    struct queue **queues;
    size_t queue_count;
    struct run_list runs;
    uint32_t queues_serial; /* of what the broker was told last */
    uint32_t known_serial;  /* of what it has confirmed */
    bool all_paused;        /* queues that come are paused, too */
    bool signal_paused;     /* TSTP has paused all, beside that */
    bool drain_asked;       /* no queue is given anything */
    uint32_t drain_serial;  /* since this one; a broker that knows it leases nothing */
    int64_t drain_since_us; /* wall clock */
    struct unreported_ends unreported;
    size_t unreported_count;
    struct event *signals[12];
    size_t signal_count;
    struct event *drain_timer, *beat_timer;
    int64_t beat_checked_ms, started_ms;
    int64_t started_us;       /* wall clock */
    int64_t store_trouble_ms; /* as the broker said last; 0: none */
    bool unclosed_told;
    bool was_ready; /* a worker has been ready */
    bool cancelled; /* the drain limit has passed: running jobs were told to stop */
    bool cut_short; /* a worker that stops was killed, or has died: it may have had an outcome */
    int exit_status;
};

/* ---- spawn.c ---- */
/* Execs the place's program. plugin: its file, for the worker to use; -1: what is at its path.
 * *lifeline_out is our end. output is opened for a worker. */
int pgqrs_spawn(const struct place *place, uint64_t generation, const char *control_url, int plugin,
                pid_t *pid_out, int *lifeline_out, struct child_output *output,
                struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* Whether a child gets this variable of ours, as NAME=VALUE; names: isolation.environment. */
bool pgqrs_spawn_passes(const char *names, const char *variable);

/* ---- output.c ---- */
struct output_ends { /* what a worker inherits */
    int memory, read[PGQRS_STREAM_COUNT], write[PGQRS_STREAM_COUNT];
};
/* After a failure, too, both are to be closed. */
int pgqrs_output_open(struct child_output *output, struct output_ends *ends,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_output_ends_close(struct output_ends *ends);
void pgqrs_output_close(struct child_output *output);
/* The process is reaped: logs what it could not log any more. */
void pgqrs_output_finish(struct child *child);
/* After that: its last lines, the newest that fit, with a newline between two. Empty when there are
 * none. Valid UTF-8 without control characters. */
void pgqrs_output_tail(struct child *child, char *out, size_t size);
/* After it, too: the job that ran when it died; 0: none. */
int64_t pgqrs_output_job(const struct child *child);

/* ---- child.c ---- */
int pgqrs_child_create(struct place *place, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The process is reaped: closes everything; last_words gets its text or is empty. */
void pgqrs_child_destroy(struct child *child, char last_words[PGQRS_LAST_WORDS_MAX + 1]);
/* Takes the frame's memory. */
void pgqrs_child_post(struct child *child, struct pgqrs_buf *frame);
void pgqrs_child_post_empty(struct child *child, enum pgqrs_msg_type type);
void pgqrs_child_post_log_level(struct child *child); /* ours */
void pgqrs_child_kill(struct child *child, const char *reason);
void pgqrs_child_drain(struct child *child);
/* Tells this broker that a worker has ended. */
void pgqrs_child_post_ended(struct child *broker, uint64_t generation, enum pgqrs_end how,
                            const char *reason);
/* Of the configuration alone; and with what the operator wants. */
struct pgqrs_queue_settings pgqrs_configured_settings(const struct pgqrs_config_queue *queue);
struct pgqrs_queue_settings pgqrs_queue_settings(const struct queue *queue);
struct pgqrs_isolation pgqrs_worker_isolation(const struct pgqrs_config_isolation *isolation);
void pgqrs_child_describe_worker(const struct child *worker, struct pgqrs_worker_started *m);
const char *pgqrs_child_state_name(enum child_state state);

/* ---- places.c ---- */
/* "broker" or "queue \"mail\": worker 3" */
const char *pgqrs_place_name(const struct place *place);
/* Unless somebody is there, or the queue is failing. */
void pgqrs_place_start(struct place *place);
/* The same, when the queue is failing. */
void pgqrs_place_try(struct place *place);
/* A child in the place has become ready. */
void pgqrs_place_ready(struct place *place);
/* The place's process has ended with this status and usage, as wait4 gives them. */
void pgqrs_place_ended(struct place *place, int wait_status, const struct rusage *usage);
struct place *pgqrs_place_of_pid(struct supervisor *s, pid_t pid);
struct place *pgqrs_place_of_generation(struct supervisor *s, uint64_t generation);
size_t pgqrs_workers_alive(const struct supervisor *s);
typedef void place_fn(struct place *place);
void pgqrs_each_worker(struct supervisor *s, place_fn *fn);

/* ---- failing.c ---- */
/* A worker has ended that should not have. True: its queue is failing, and sees to the place. */
bool pgqrs_failing_died(struct place *place, bool was_ready, int exit_code, const char *why);
/* A worker of the queue is ready. */
void pgqrs_failing_ready(struct queue *queue);
void pgqrs_failing_fini(struct queue *queue);

/* A failing queue is tried at once, and then as often as is configured by now. */
void pgqrs_failing_retry(struct queue *queue);

/* ---- queue.c ---- */
/* Takes the configuration, of which nothing is left. */
struct queue *pgqrs_supervisor_add_queue(struct supervisor *s, struct pgqrs_config_queue *config,
                                         struct pgqrs_error *err);
struct queue *pgqrs_supervisor_find_queue(struct supervisor *s,
                                          const char *name); /* null: not there */
/* Frees those that were removed and have no process any more. One that somebody has paused stays,
 * so that it is paused when it comes back. */
void pgqrs_queues_sweep(struct supervisor *s);
void pgqrs_supervisor_free_queues(struct supervisor *s);
struct version *pgqrs_version_create(struct pgqrs_config_queue *config);
/* For its user; the last one frees it. Accepts null. */
void pgqrs_version_release(struct version **version);
/* What a process that is started in the place is to run. */
struct version *pgqrs_version_of(const struct place *place);
/* Whether the plugin's path leads to the version's file. */
bool pgqrs_version_is_current(const struct version *version);
/* "loaded": the plugin's path leads to the version's file; else "changed", "gone", or "unknown"
 * when there is none to compare with. */
const char *pgqrs_version_plugin_state(const struct version *version);
/* Whether the file we hold has to be used instead of what is at the path. */
bool pgqrs_version_is_pinned(const struct version *version);
/* When no worker of it was ever ready, takes what is at the path now. */
void pgqrs_version_look_again(struct version *version);

/* ---- reload.c ---- */
/* Takes the configuration file anew. Appends what it changes to an array, as texts. A bad file
 * changes nothing. */
int pgqrs_reload(struct supervisor *s, json_t *changes, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The broker has the queues of this serial in the store. */
void pgqrs_reload_known(struct supervisor *s, uint32_t serial);
/* A worker has ended that should not have. True: it was a canary, and its place has gone. */
bool pgqrs_reload_canary_died(struct place *place, int exit_code, const char *why);
/* From time to time: canaries that have done well, queues that can go. */
void pgqrs_reload_check(struct supervisor *s);

/* Tells the broker of the queues, if there is one. */
void pgqrs_queues_tell(struct supervisor *s);

/* ---- steer.c ---- */
bool pgqrs_queue_is_paused(const struct queue *queue);
/* Begins a pause or ends it; null: of all queues, and with it a drain. Appends the names of those
 * for which something changes to an array. err says why not. */
void pgqrs_steer_pause(struct supervisor *s, struct queue *queue, bool paused, json_t *changed,
                       struct pgqrs_error *err);
/* TSTP or CONT. */
void pgqrs_steer_signal(struct supervisor *s, bool paused);
/* Nothing more is leased, from any queue, until somebody ends all pauses. err says why not. */
void pgqrs_steer_drain(struct supervisor *s, struct pgqrs_error *err);
/* How many jobs still run; -1: nobody knows yet. */
int64_t pgqrs_steer_running(const struct supervisor *s);

/* ---- schedules.c ---- */
/* Tells the broker, if there is one. */
void pgqrs_schedules_tell(struct supervisor *s);
/* Takes those of the new configuration. */
void pgqrs_schedules_reload(struct supervisor *s, struct pgqrs_config *fresh, json_t *changes);

/* ---- gateway.c ---- */
/* Listens, when the configuration says so. */
int pgqrs_gateway_listen(struct supervisor *s, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_gateway_welcome(struct child *child);
/* It is told to end. False: it is not there. */
bool pgqrs_gateway_stop(struct supervisor *s);
/* What it answers has changed; it need not wait until it asks again. */
void pgqrs_gateway_tell(struct supervisor *s);

/* ---- scaling.c ---- */
/* As many as the configuration allows. */
int64_t pgqrs_scaling_bound(const struct queue *queue, int64_t wanted);
void pgqrs_scaling_load(struct supervisor *s, const struct pgqrs_queue_load *load);
/* From time to time. */
void pgqrs_scaling_check(struct supervisor *s);
/* There is no broker that could tell. */
void pgqrs_scaling_forget(struct supervisor *s);

/* ---- pool.c ---- */
/* So many places, without processes. */
int pgqrs_pool_create(struct supervisor *s, struct queue *queue, int64_t wanted,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_pool_destroy(struct queue *queue);
/* More or fewer workers from now on, within bounds; idle ones go first. why is for the log. */
void pgqrs_pool_scale(struct supervisor *s, struct queue *queue, int64_t wanted, const char *why);
/* The worker in the place is ready: the one it replaces retires. */
void pgqrs_pool_ready(struct place *place);
/* A worker has ended that was never ready. True: it was to replace one, which goes on instead, and
 * the place has gone. */
bool pgqrs_pool_give_up_replacing(struct place *place, const char *why);
/* The place's worker has ended. True: the place had to go with it, and has gone. */
bool pgqrs_pool_leave(struct place *place);
/* A worker of queue->next beside the others: queue->canary, null when there is no room. */
void pgqrs_pool_start_canary(struct queue *queue);
/* The worker in the place stays, the one it replaces retires. */
void pgqrs_pool_replaced(struct place *place);
/* The place goes, with its worker once that has finished. */
void pgqrs_pool_retire(struct place *place);
/* Replaces the next worker of an older version. */
void pgqrs_pool_roll(struct queue *queue);
/* From time to time: begins to replace workers that have reached a limit. */
void pgqrs_pool_recycle(struct supervisor *s);

/* ---- deaths.c ---- */
/* A process that is reaped and not destroyed yet. output: its last lines. */
void pgqrs_deaths_add(struct deaths *deaths, const struct child *child, int wait_status,
                      const struct rusage *usage, const char *why, const char *output);
void pgqrs_deaths_fini(struct deaths *deaths);
/* The name of a core file by the kernel's core_pattern(5); a star for what can not be known. */
void pgqrs_core_name(const char *pattern, bool add_pid, const char *dir, pid_t pid, int signal,
                     char *out, size_t size);

/* ---- tally.c ---- */
int pgqrs_tally_create(struct supervisor *s, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_tally_destroy(struct supervisor *s);
/* A place for a queue, all of it 0. */
uint32_t pgqrs_tally_place(struct supervisor *s);
/* Each adds to an object, as those of status.c. */
void pgqrs_tally_describe_queue(const struct queue *queue, json_t *out);
void pgqrs_tally_describe(const struct supervisor *s, json_t *out);

/* ---- status.c ---- */
/* Each adds to an object; a key for which there is no memory is missing. */
void pgqrs_status_whole(const struct supervisor *s, json_t *out);
void pgqrs_status_deaths(const struct supervisor *s, const struct queue *only, json_t *out);
int64_t pgqrs_resident_memory(pid_t pid); /* bytes; 0 when nobody can tell */

/* ---- supervisor.c ---- */
/* For PID 1, to which the kernel gives no signal that has no handler: a stop that comes from here
 * on waits until pgqrs_supervisor_run has its handlers. */
void pgqrs_supervisor_hold_signals(void);
int pgqrs_supervisor_run(struct pgqrs_config *config, const char *config_path,
                         struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_supervisor_broker_ready(struct supervisor *s);
/* Something has ended: goes on with a drain or a stop that is under way. */
void pgqrs_supervisor_step(struct supervisor *s);
/* From now on, here and in every child, those to come included. */
void pgqrs_supervisor_set_log_level(struct supervisor *s, enum pgqrs_log_level level);
/* As TERM; now: as QUIT. why is for the log. */
void pgqrs_supervisor_stop(struct supervisor *s, bool now, const char *why);
/* Ends everything in order and exits with this status. */
void pgqrs_supervisor_fail(struct supervisor *s, int exit_status);

#endif
