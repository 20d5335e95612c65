/* SPDX-License-Identifier: Apache-2.0 */
/* What the supervisor knows, as JSON. */
#include "supervisor/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "base/clock.h"

static const char *const supervisor_states[] = {
    [SUPERVISOR_STARTING] = "starting", [SUPERVISOR_RUNNING] = "running",
    [SUPERVISOR_DRAINING] = "draining", [SUPERVISOR_STOPPING] = "stopping",
    [SUPERVISOR_DONE] = "done",
};

/* Bytes that are resident; 0 when nobody can tell. */
int64_t pgqrs_resident_memory(pid_t pid)
{
    char path[40];
    long long pages = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return 0;
    }
    if (fscanf(f, "%*d %lld", &pages) != 1) {
        pages = 0;
    }
    (void)fclose(f); /* it was only read */
    return pages * sysconf(_SC_PAGESIZE);
}

/* What it has computed, as user and in the kernel; -1 when nobody can tell. */
static int64_t cpu_ms(pid_t pid)
{
    char path[40];
    char line[1024];
    unsigned long long user;
    unsigned long long kernel;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return -1;
    }
    size_t len = fread(line, 1, sizeof line - 1, f);
    (void)fclose(f); /* it was only read */
    line[len] = 0;
    const char *rest = strrchr(line, ')'); /* the name before it may hold anything */
    if (rest == NULL || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                               &user, &kernel) != 2) {
        return -1;
    }
    return (int64_t)((user + kernel) * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));
}

static json_t *time_of(int64_t us)
{
    char text[PGQRS_TIMESTAMP_SIZE];
    pgqrs_timestamp_format(us, text);
    text[10] = 'T'; /* as in RFC 3339, with the Z */
    return json_sprintf("%sZ", text);
}

static void put(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value); /* without memory the key is missing */
}

static json_t *describe_deaths(const struct deaths *deaths)
{
    static const char *const names[DEATH_REASON_COUNT] = {
        [DEATH_EXIT] = "exit",     [DEATH_SIGNAL] = "signal", [DEATH_TIMEOUT] = "timeout",
        [DEATH_MEMORY] = "memory", [DEATH_KILLED] = "killed",
    };
    json_t *out = json_object();
    for (size_t i = 0; i < DEATH_REASON_COUNT; i++) {
        put(out, names[i], json_integer((json_int_t)deaths->reasons[i]));
    }
    return out;
}

static json_t *describe_place(const struct place *place)
{
    const struct child *child = place->child;
    json_t *out = json_object();
    if (place->role == PGQRS_ROLE_WORKER) {
        put(out, "worker", json_integer(place->slot));
    }
    put(out, "state",
        json_string(child == NULL ? "not running" : pgqrs_child_state_name(child->state)));
    put(out, "deaths_in_a_row", json_integer(place->restart.deaths));
    if (child == NULL) {
        return out;
    }
    put(out, "pid", json_integer(child->pid));
    put(out, "generation", json_integer((json_int_t)child->generation));
    put(out, "beat_age_ms", json_integer(pgqrs_mono_ms() - child->beat_at_ms));
    put(out, "memory", json_integer(pgqrs_resident_memory(child->pid)));
    int64_t cpu = cpu_ms(child->pid);
    put(out, "cpu_ms", cpu < 0 ? json_null() : json_integer(cpu));
    if (place->role == PGQRS_ROLE_WORKER) {
        put(out, "job", child->beat.job_id == 0 ? json_null() : json_integer(child->beat.job_id));
        put(out, "job_ms", json_integer(child->beat.job_ms));
        put(out, "held", json_integer(child->beat.held));
        put(out, "settled", json_integer((json_int_t)child->beat.settled));
        put(out, "memory_limit",
            child->memory_limit == 0 ? json_null() : json_integer(child->memory_limit));
        put(out, "memory_limit_kept_by",
            child->memory_limit == 0 ? json_null()
                                     : json_string(child->confined ? "cgroup" : "rlimit"));
    }
    return out;
}

static json_t *describe_queue(const struct queue *queue)
{
    json_t *out = json_object();
    json_t *workers = json_array();
    put(out, "queue", json_string(queue->name));
    put(out, "consumers", json_integer(queue->wanted));
    put(out, "consumers_min",
        json_integer(queue->config->consumers_max > 0 &&
                             queue->config->consumers_min < queue->wanted
                         ? queue->config->consumers_min
                         : queue->wanted));
    put(out, "consumers_max", json_integer(queue->config->consumers_max));
    put(out, "waiting", json_integer(queue->scaling.ready));
    put(out, "paused", json_boolean(pgqrs_queue_is_paused(queue)));
    put(out, "failing",
        queue->failing.retry == NULL ? json_null() : json_string(queue->failing.why));
    if (queue->failing.retry != NULL) {
        put(out, "failing_since", time_of(queue->failing.since_us));
    }
    const struct version *version = queue->next != NULL ? queue->next : queue->version;
    put(out, "plugin", json_string(version->config.handler));
    put(out, "plugin_file", json_string(pgqrs_version_plugin_state(version)));
    put(out, "version_since", time_of(version->since_us));
    pgqrs_tally_describe_queue(queue, out);
    put(out, "deaths", json_integer((json_int_t)queue->deaths.count));
    put(out, "deaths_by_reason", describe_deaths(&queue->deaths));
    put(out, "reload",
        json_string(queue->removed        ? "removed"
                    : queue->next != NULL ? "trying"
                    : queue->rolling      ? "rolling"
                    : queue->refused      ? "refused"
                                          : "done"));
    put(out, "reload_refused", queue->refused == NULL ? json_null() : json_string(queue->refused));
    for (size_t i = 0; i < queue->place_count; i++) {
        (void)json_array_append_new(workers, describe_place(queue->places[i]));
    }
    put(out, "workers", workers);
    return out;
}

static json_t *describe_drain(const struct supervisor *s)
{
    json_t *out = s->drain_asked ? json_object() : json_null();
    if (s->drain_asked) {
        int64_t running = pgqrs_steer_running(s);
        put(out, "since", time_of(s->drain_since_us));
        put(out, "running", running < 0 ? json_null() : json_integer(running));
        put(out, "drained", json_boolean(running == 0));
    }
    return out;
}

void pgqrs_status_whole(const struct supervisor *s, json_t *out)
{
    json_t *queues = json_array();
    put(out, "version", json_string(PGQRS_VERSION));
    put(out, "name", json_string(s->config->name));
    put(out, "pid", json_integer(getpid()));
    enum supervisor_state state =
        s->drain_asked && s->state == SUPERVISOR_RUNNING ? SUPERVISOR_DRAINING : s->state;
    put(out, "state", json_string(supervisor_states[state]));
    put(out, "drain", describe_drain(s));
    put(out, "log_level", json_string(pgqrs_log_level_name(pgqrs_log_level())));
    put(out, "memory", json_integer(pgqrs_resident_memory(getpid())));
    put(out, "unclosed_channels", json_integer((json_int_t)pgqrs_control_unclosed()));
    put(out, "started_us", json_integer(s->started_us));
    put(out, "store_trouble_ms", json_integer(s->store_trouble_ms));
    put(out, "http_listen",
        s->config->http_listen == NULL ? json_null() : json_string(s->config->http_listen));
    put(out, "broker", describe_place(&s->broker));
    pgqrs_tally_describe(s, out);
    put(out, "broker_deaths", json_integer((json_int_t)s->broker_deaths.count));
    put(out, "gateway", s->http_fd < 0 ? json_null() : describe_place(&s->gateway));
    put(out, "gateway_deaths", json_integer((json_int_t)s->gateway_deaths.count));
    for (size_t i = 0; i < s->queue_count; i++) {
        (void)json_array_append_new(queues, describe_queue(s->queues[i]));
    }
    put(out, "queues", queues);
}

/* ---- deaths ---- */

static json_t *describe_death(const struct death *death, const char *queue)
{
    json_t *out = json_object();
    int status = death->wait_status;
    put(out, "at", time_of(death->at_us));
    put(out, "queue", queue == NULL ? json_null() : json_string(queue));
    put(out, "worker",
        queue == NULL || death->slot >= PGQRS_RUN_SLOTS ? json_null() : json_integer(death->slot));
    put(out, "pid", json_integer(death->pid));
    put(out, "generation", json_integer((json_int_t)death->generation));
    put(out, "reason", json_string(death->why));
    put(out, "by_request", json_boolean(death->asked));
    put(out, "signal", WIFSIGNALED(status) ? json_integer(WTERMSIG(status)) : json_null());
    put(out, "status", WIFEXITED(status) ? json_integer(WEXITSTATUS(status)) : json_null());
    put(out, "job", death->job_id == 0 ? json_null() : json_integer(death->job_id));
    put(out, "settled", json_integer((json_int_t)death->settled));
    put(out, "ready_ms", death->ready_ms < 0 ? json_null() : json_integer(death->ready_ms));
    put(out, "peak_memory", json_integer(death->peak_memory));
    put(out, "core", death->core == NULL ? json_null() : json_string(death->core));
    put(out, "output", death->output == NULL ? json_null() : json_string(death->output));
    return out;
}

static void put_deaths(json_t *list, const struct deaths *deaths, const char *queue)
{
    size_t kept = deaths->count < PGQRS_DEATHS_KEPT ? deaths->count : PGQRS_DEATHS_KEPT;
    for (size_t i = deaths->count - kept; i < deaths->count; i++) {
        (void)json_array_append_new(list,
                                    describe_death(&deaths->ring[i % PGQRS_DEATHS_KEPT], queue));
    }
}

void pgqrs_status_deaths(const struct supervisor *s, const struct queue *only, json_t *out)
{
    json_t *list = json_array();
    if (only == NULL) {
        put_deaths(list, &s->broker_deaths, NULL);
    }
    for (size_t i = 0; i < s->queue_count; i++) {
        if (only == NULL || only == s->queues[i]) {
            put_deaths(list, &s->queues[i]->deaths, s->queues[i]->name);
        }
    }
    put(out, "deaths", list);
}
