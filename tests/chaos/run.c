/* SPDX-License-Identifier: Apache-2.0 */
/* A run from its start to its report. */
#include "tests/chaos/chaos_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/chaos/aftermath.h"

#define STEP_MS 5
#define END_MS 40000
#define READY_MS 30000
#define DRAIN_MS 120000

uint64_t chaos_next(struct chaos_random *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

int64_t chaos_pick(struct chaos_random *r, int64_t low, int64_t high)
{
    return low + (int64_t)(chaos_next(r) % (uint64_t)(high - low + 1));
}

/* ---- the daemon ---- */

static void write_config(const struct chaos_run_state *c)
{
    const char *handler = built("tests/handlers/ledger.so");
    const char *dir = c->scratch.dir;
    scratch_write(&c->scratch, "pgqrsd.yaml",
                  "dsn: %s\n"
                  "runtime_dir: %s/run\n"
                  "heartbeat: {interval: 200ms, timeout: %dms}\n"
                  "lease: 3s\n"
                  "shutdown: {drain: 2s, cancel_grace: 500ms}\n"
                  "%s%s\n"
                  "queues:\n"
                  "  work:\n"
                  "    handler: %s\n"
                  "    settings: {dir: %s}\n"
                  "    consumers: %d\n"
                  "    prefetch: 5\n"
                  "    max_attempts: 1000\n"
                  "    on_crash: 1000000\n"
                  "    restart: {max: 100, window: 1s}\n"
                  "    timeout: 3s\n"
                  "    cancel_grace: 300ms\n"
                  "    retry: {base: 50ms, max: 1s}\n"
                  "  follow:\n"
                  "    handler: %s\n"
                  "    settings: {dir: %s}\n"
                  "    consumers: %d\n"
                  "    max_attempts: 1000\n"
                  "    on_crash: 1000000\n"
                  "    restart: {max: 100, window: 1s}\n",
                  c->scratch.dsn, dir, CHAOS_HEARTBEAT_TIMEOUT_MS, c->rig != NULL ? "schema: " : "",
                  chaos_schema(c), handler, dir, CHAOS_WORKERS, handler, dir, CHAOS_FOLLOWERS);
}

static bool is_hopeless(struct chaos_run_state *c, int status)
{
    c->hopeless = true;
    c->daemon.pid = 0;
    chaos_find(&c->findings, "pgqrsd ended by itself: status %d, signal %d",
               WIFEXITED(status) ? WEXITSTATUS(status) : -1,
               WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    return true;
}

static bool ended_by_itself(struct chaos_run_state *c)
{
    int status;
    return c->daemon.pid > 0 && waitpid(c->daemon.pid, &status, WNOHANG) == c->daemon.pid &&
           is_hopeless(c, status);
}

void chaos_start_daemon(struct chaos_run_state *c)
{
    struct stat st;
    c->log_from = stat(c->daemon.log, &st) == 0 ? st.st_size : 0;
    c->starts++;
    daemon_start(&c->daemon, &c->scratch);
}

int chaos_await_end(struct chaos_run_state *c, const char *after)
{
    int status = 0;
    int64_t deadline = pgqrs_mono_ms() + END_MS;
    while (waitpid(c->daemon.pid, &status, WNOHANG) == 0) {
        if (pgqrs_mono_ms() > deadline) {
            chaos_find(&c->findings, "pgqrsd did not end within %d s of %s", END_MS / 1000, after);
            (void)kill(c->daemon.pid, SIGKILL);
            (void)waitpid(c->daemon.pid, NULL, 0);
            c->daemon.pid = 0;
            return -1;
        }
        (void)poll(NULL, 0, STEP_MS);
    }
    c->daemon.pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void chaos_pause(struct chaos_run_state *c, int64_t ms)
{
    int64_t until = pgqrs_mono_ms() + ms;
    while (!c->hopeless && !ended_by_itself(c)) {
        int64_t left = until - pgqrs_mono_ms();
        if (left <= 0) {
            return;
        }
        chaos_sample(c);
        (void)poll(NULL, 0, left < STEP_MS ? (int)left : STEP_MS);
    }
}

bool chaos_await_ready(struct chaos_run_state *c)
{
    int64_t deadline = pgqrs_mono_ms() + READY_MS;
    while (!chaos_log_has(c, c->log_from, "broker: ready")) {
        if (c->hopeless) {
            return false;
        }
        if (pgqrs_mono_ms() > deadline) {
            chaos_find(&c->findings, "pgqrsd was not ready within %d s", READY_MS / 1000);
            c->hopeless = true;
            return false;
        }
        chaos_pause(c, STEP_MS);
    }
    return true;
}

/* ---- a run ---- */

static void stop_daemon(struct chaos_run_state *c)
{
    if (c->daemon.pid <= 0) {
        return;
    }
    (void)kill(c->daemon.pid, SIGTERM);
    int status = chaos_await_end(c, "SIGTERM");
    if (status != 0 && status != 75) {
        chaos_find(&c->findings, "at the end the exit status is %d, expected 0 or 75", status);
    }
}

static void await_drain(struct chaos_run_state *c)
{
    int64_t deadline = pgqrs_mono_ms() + DRAIN_MS;
    int64_t open = -1;
    while (!c->hopeless && (open = chaos_open_jobs(c)) != 0) {
        if (pgqrs_mono_ms() > deadline) {
            chaos_find(&c->findings, "%" PRId64 " jobs are open %d s after the last harm", open,
                       DRAIN_MS / 1000);
            return;
        }
        chaos_pause(c, 50);
    }
}

static void do_all_harm(struct chaos_run_state *c)
{
    int64_t until = pgqrs_mono_ms() + c->options.duration_ms;
    while (!c->hopeless && pgqrs_mono_ms() < until) {
        chaos_do_harm(c);
    }
}

static bool prepare(struct chaos_run_state *c)
{
    char path[96];
    scratch_create(&c->scratch);
    (void)snprintf(path, sizeof path, "%s/harms", c->scratch.dir);
    c->harms = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    c->samples = calloc(CHAOS_SAMPLES_MAX, sizeof *c->samples);
    c->script.state = c->options.seed;
    return c->samples != NULL && chaos_target_open(c);
}

static void finish(struct chaos_run_state *c)
{
    chaos_end_harm(c);
    chaos_load_stop(c);
    await_drain(c);
    stop_daemon(c);
    chaos_check_aftermath(c);
}

int chaos(const struct chaos_options *options)
{
    struct chaos_run_state *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return -1;
    }
    c->options = *options;
    (void)printf("chaos: seed %" PRIu64 ", %s, %" PRId64 " s\n", options->seed,
                 options->postgres ? "postgres" : "sqlite", options->duration_ms / 1000);
    (void)fflush(stdout);
    if (prepare(c)) {
        write_config(c);
        chaos_start_daemon(c);
        chaos_load_start(c);
        if (chaos_await_ready(c)) {
            do_all_harm(c);
        }
        finish(c);
    }
    chaos_report(c);
    int found = (int)c->findings.count;
    chaos_target_close(c);
    if (found == 0) {
        scratch_remove(&c->scratch);
    }
    (void)close(c->harms);
    free(c->samples);
    free(c);
    return found;
}
