/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the script can do. Each harm takes the same numbers from the script whatever happens, so
 * that a seed gives the same choices; whom they hit depends on who is there.
 */
#include "tests/chaos/chaos_priv.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/chaos/aftermath.h"
#include "tests/chaos/outage.h"

struct choice {
    uint64_t victim;
    int64_t length;    /* 0 to 999: of the range that the harm has */
    unsigned meantime; /* what else happens in a long one */
};

typedef void harm_fn(struct chaos_run_state *c, const struct choice *how);

static int64_t length_ms(const struct choice *how, int64_t low, int64_t high)
{
    return low + (high - low) * how->length / 999;
}

static void record(const struct chaos_run_state *c, const char *name, pid_t pid)
{
    char line[96];
    int n =
        snprintf(line, sizeof line, "harm %s %" PRId64 " %d\n", name, pgqrs_mono_us(), (int)pid);
    if (write(c->harms, line, (size_t)n) != n) {
        perror("harms");
    }
}

static void record_over(const struct chaos_run_state *c)
{
    char line[64];
    int n = snprintf(line, sizeof line, "over %" PRId64 "\n", pgqrs_mono_us());
    if (write(c->harms, line, (size_t)n) != n) {
        perror("harms");
    }
}

/* ---- processes ---- */

static pid_t victim(const struct chaos_run_state *c, const char *program, const struct choice *how)
{
    pid_t pids[64];
    size_t count = daemon_children(&c->daemon, program, pids, 64);
    return count == 0 ? 0 : pids[how->victim % count];
}

static void harm_one(const struct chaos_run_state *c, const char *name, pid_t pid, int sig)
{
    if (pid > 0) {
        record(c, name, pid);
        (void)kill(pid, sig); /* it may have ended meanwhile */
    }
}

static void kill_worker(struct chaos_run_state *c, const struct choice *how)
{
    harm_one(c, CHAOS_KILL_WORKER, victim(c, "pgqrs-worker", how), SIGKILL);
}

static void kill_all_workers(struct chaos_run_state *c, const struct choice *how)
{
    pid_t pids[64];
    size_t count = daemon_children(&c->daemon, "pgqrs-worker", pids, 64);
    (void)how;
    for (size_t i = 0; i < count; i++) {
        harm_one(c, CHAOS_KILL_WORKER, pids[i], SIGKILL);
    }
}

static void kill_broker(struct chaos_run_state *c, const struct choice *how)
{
    harm_one(c, CHAOS_KILL_BROKER, victim(c, "pgqrs-broker", how), SIGKILL);
}

/* The supervisor has to see that it does not beat. */
static void stop_worker(struct chaos_run_state *c, const struct choice *how)
{
    harm_one(c, "stop_worker", victim(c, "pgqrs-worker", how), SIGSTOP);
}

static void stop_broker(struct chaos_run_state *c, const struct choice *how)
{
    harm_one(c, "stop_broker", victim(c, "pgqrs-broker", how), SIGSTOP);
}

static void stop_for(struct chaos_run_state *c, const char *name, pid_t pid, int64_t ms)
{
    harm_one(c, name, pid, SIGSTOP);
    chaos_pause(c, ms);
    harm_one(c, "cont", pid, SIGCONT);
}

static void pause_worker(struct chaos_run_state *c, const struct choice *how)
{
    stop_for(c, "pause_worker", victim(c, "pgqrs-worker", how), length_ms(how, 20, 900));
}

static void pause_broker(struct chaos_run_state *c, const struct choice *how)
{
    stop_for(c, "pause_broker", victim(c, "pgqrs-broker", how), length_ms(how, 20, 900));
}

static void pause_supervisor(struct chaos_run_state *c, const struct choice *how)
{
    stop_for(c, "pause_supervisor", c->daemon.pid,
             length_ms(how, 20, CHAOS_HEARTBEAT_TIMEOUT_MS + 1000));
}

/* Gives one of them little of the processor's time. */
static void starve(struct chaos_run_state *c, const struct choice *how)
{
    const pid_t all[] = {victim(c, "pgqrs-worker", how), victim(c, "pgqrs-broker", how),
                         c->daemon.pid};
    pid_t pid = all[how->victim % 3];
    if (pid <= 0) {
        return;
    }
    record(c, "starve", pid);
    for (int64_t n = length_ms(how, 10, 60); n > 0; n--) {
        (void)kill(pid, SIGSTOP);
        chaos_pause(c, 15);
        (void)kill(pid, SIGCONT);
        chaos_pause(c, 3);
    }
}

static pid_t start_burner(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (volatile unsigned n = 0;; n++) {
        }
    }
    return pid;
}

static void burn(struct chaos_run_state *c, const struct choice *how)
{
    pid_t pids[CHAOS_BURNERS_MAX];
    record(c, "burn", 0);
    for (int i = 0; i < CHAOS_BURNERS_MAX; i++) {
        pids[i] = start_burner();
    }
    chaos_pause(c, length_ms(how, 100, 1500));
    for (int i = 0; i < CHAOS_BURNERS_MAX; i++) {
        if (pids[i] > 0) {
            (void)kill(pids[i], SIGKILL);
            (void)waitpid(pids[i], NULL, 0);
        }
    }
}

static void kill_supervisor(struct chaos_run_state *c, const struct choice *how)
{
    (void)how;
    record(c, CHAOS_KILL_SUPERVISOR, c->daemon.pid);
    (void)kill(c->daemon.pid, SIGKILL);
    (void)chaos_await_end(c, "SIGKILL");
    record_over(c);
    chaos_start_daemon(c);
}

static void drain(struct chaos_run_state *c, const struct choice *how)
{
    (void)how;
    record(c, "drain", c->daemon.pid);
    (void)kill(c->daemon.pid, SIGTERM);
    int status = chaos_await_end(c, "SIGTERM");
    bool broker_killed =
        status == 1 && chaos_log_has(c, c->log_from, "leases that are left are freed");
    if (status != 0 && status != 75 && !broker_killed) {
        chaos_find(&c->findings, "after a drain the exit status is %d, expected 0 or 75", status);
    }
    if (broker_killed) {
        record_over(c);
    }
    chaos_start_daemon(c);
}

/* One consumer less, then one more. */
static void scale(struct chaos_run_state *c, const struct choice *how)
{
    record(c, "scale", c->daemon.pid);
    (void)kill(c->daemon.pid, SIGTTOU);
    chaos_pause(c, length_ms(how, 0, 500));
    (void)kill(c->daemon.pid, SIGTTIN);
}

/* ---- the store ---- */

static void meantime(struct chaos_run_state *c, const struct choice *how)
{
    if (how->meantime == 0) {
        kill_broker(c, how);
    } else if (how->meantime == 1) {
        kill_worker(c, how);
    }
}

static void outage(struct chaos_run_state *c, const struct choice *how,
                   const struct chaos_outage *kind)
{
    if (!chaos_await_ready(c)) {
        return; /* a database must answer when pgqrsd starts */
    }
    int64_t ms = length_ms(how, 50, kind->longest_ms);
    record(c, kind->name, 0);
    if (kind->begin(c)) {
        chaos_pause(c, ms / 2);
        meantime(c, how);
        chaos_pause(c, ms / 2);
    }
    kind->end(c);
    record(c, "works", 0);
}

static void lock_store(struct chaos_run_state *c, const struct choice *how)
{
    outage(c, how, &chaos_outage_lock);
}

static void fill_disk(struct chaos_run_state *c, const struct choice *how)
{
    if (c->disk[0] != 0) {
        outage(c, how, &chaos_outage_disk);
    }
}

static void restart_server(struct chaos_run_state *c, const struct choice *how)
{
    outage(c, how, how->victim % 2 == 0 ? &chaos_outage_fast : &chaos_outage_immediate);
}

static void freeze_server(struct chaos_run_state *c, const struct choice *how)
{
    outage(c, how, &chaos_outage_freeze);
}

static void end_connections(struct chaos_run_state *c, const struct choice *how)
{
    record(c, "end_connections", 0);
    chaos_end_connections(c, how->victim % 2 == 0);
}

/* As an operator may; what the worker then says of the job must not count. */
static void take_lease(struct chaos_run_state *c, const struct choice *how)
{
    int64_t id = chaos_leased_job(c, how->victim);
    if (id != 0) {
        record(c, CHAOS_TAKE_LEASE, (pid_t)id);
        chaos_take_lease(c, id);
    }
}

/* ---- the script ---- */

enum where { ANY, SQLITE, POSTGRES };

static const struct harm_kind {
    const char *name;
    harm_fn *act;
    unsigned weight;
    enum where where;
} kinds[] = {
    {"kill_worker", kill_worker, 16, ANY},
    {"kill_all_workers", kill_all_workers, 1, ANY},
    {"kill_broker", kill_broker, 10, ANY},
    {"kill_supervisor", kill_supervisor, 4, ANY},
    {"stop_worker", stop_worker, 5, ANY},
    {"stop_broker", stop_broker, 3, ANY},
    {"pause_worker", pause_worker, 6, ANY},
    {"pause_broker", pause_broker, 6, ANY},
    {"pause_supervisor", pause_supervisor, 3, ANY},
    {"starve", starve, 4, ANY},
    {"burn", burn, 3, ANY},
    {"drain", drain, 3, ANY},
    {"scale", scale, 3, ANY},
    {"take_lease", take_lease, 6, ANY},
    {"lock_store", lock_store, 6, SQLITE},
    {"fill_disk", fill_disk, 6, SQLITE},
    {"end_connections", end_connections, 10, POSTGRES},
    {"restart_server", restart_server, 5, POSTGRES},
    {"freeze_server", freeze_server, 3, POSTGRES},
};
#define KINDS (sizeof kinds / sizeof *kinds)
_Static_assert(KINDS <= CHAOS_HARM_KINDS_MAX, "each is counted");

static unsigned weight_of(const struct chaos_run_state *c, size_t kind)
{
    enum where here = c->options.postgres ? POSTGRES : SQLITE;
    return kinds[kind].where == ANY || kinds[kind].where == here ? kinds[kind].weight : 0;
}

static size_t choose(struct chaos_run_state *c)
{
    unsigned sum = 0;
    size_t kind = 0;
    for (size_t i = 0; i < KINDS; i++) {
        sum += weight_of(c, i);
    }
    int64_t at = chaos_pick(&c->script, 0, (int64_t)sum - 1);
    while (at >= weight_of(c, kind)) {
        at -= weight_of(c, kind++);
    }
    return kind;
}

void chaos_do_harm(struct chaos_run_state *c)
{
    int64_t pause_ms = chaos_pick(&c->script, 50, 900);
    size_t kind = choose(c);
    struct choice how = {.victim = chaos_next(&c->script)};
    how.length = chaos_pick(&c->script, 0, 999);
    how.meantime = (unsigned)chaos_pick(&c->script, 0, 3);
    chaos_pause(c, pause_ms);
    if (!c->hopeless) {
        c->harm_counts[kind]++;
        kinds[kind].act(c, &how);
    }
}

void chaos_end_harm(struct chaos_run_state *c)
{
    static const char *const programs[] = {"pgqrs-worker", "pgqrs-broker"};
    pid_t pids[64];
    for (size_t p = 0; p < 2; p++) {
        size_t count = daemon_children(&c->daemon, programs[p], pids, 64);
        for (size_t i = 0; i < count; i++) {
            (void)kill(pids[i], SIGCONT);
        }
    }
}

void chaos_print_harms(const struct chaos_run_state *c)
{
    (void)printf("chaos: harm:");
    for (size_t i = 0; i < KINDS; i++) {
        if (c->harm_counts[i] > 0) {
            (void)printf(" %s %u", kinds[i].name, c->harm_counts[i]);
        }
    }
    (void)printf("\n");
}
