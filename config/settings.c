/* SPDX-License-Identifier: Apache-2.0 */
#include "config/settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/cron.h"
#include "base/units.h"
#include "config/config.h"
#include "config/locate.h"
#include "config/variable.h"
#include "ipc/msg.h"
#include "store/schedule.h"

#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

static const struct pgqrs_choice booleans[] = {{"true", 1}, {"false", 0}, {0}};
static const struct pgqrs_choice strategies[] = {
    {"exponential", PGQRS_RETRY_EXPONENTIAL}, {"fixed", PGQRS_RETRY_FIXED}, {0}};
static const struct pgqrs_choice done_actions[] = {{"archive", 0}, {"delete", 1}, {0}};
static const struct pgqrs_choice catch_ups[] = {
    {"skip", PGQRS_CATCH_UP_SKIP}, {"once", PGQRS_CATCH_UP_ONCE}, {"all", PGQRS_CATCH_UP_ALL}, {0}};
static const struct pgqrs_choice overlaps[] = {
    {"allow", PGQRS_OVERLAP_ALLOW}, {"skip", PGQRS_OVERLAP_SKIP}, {0}};
static const struct pgqrs_choice pauses[] = {
    {"true", PGQRS_SCHEDULE_PAUSE}, {"false", PGQRS_SCHEDULE_RESUME}, {0}};
static const struct pgqrs_choice filters[] = {{"off", 0}, {"default", 1}, {0}};
static const struct pgqrs_choice synchronous[] = {{"full", 1}, {"normal", 0}, {0}};
static const struct pgqrs_choice formats[] = {
    {"text", PGQRS_LOG_TEXT}, {"json", PGQRS_LOG_JSON}, {0}};
static const struct pgqrs_choice levels[] = {{"debug", PGQRS_LOG_DEBUG},
                                             {"info", PGQRS_LOG_INFO},
                                             {"warn", PGQRS_LOG_WARN},
                                             {"error", PGQRS_LOG_ERROR},
                                             {0}};

#define PLACE(type, member) offsetof(struct type, member), sizeof((struct type *)0)->member
#define TOP(member) PLACE(pgqrs_config, member)
#define OF_QUEUE(member) PLACE(pgqrs_config_queue, member)
#define OF_SCHEDULE(member) PLACE(pgqrs_config_schedule, member)

/* clang-format off */
static const struct pgqrs_setting top_rows[] = {
    {"dsn", PGQRS_SETTING_DSN, NULL, "PGQRS_DSN", 0, 0, NULL, TOP(dsn),
     "The store: sqlite:PATH or postgres://USER@HOST/DATABASE. Required."},
    {"schema", PGQRS_SETTING_SCHEMA, "public", "PGQRS_SCHEMA", 0, 0, NULL, TOP(schema),
     "PostgreSQL: the schema that holds the tables."},
    {"wake_dsn", PGQRS_SETTING_DSN, NULL, "PGQRS_WAKE_DSN", 0, 0, NULL, TOP(wake_dsn),
     "PostgreSQL behind a pooler: the server itself, for the connection that listens."},
    {"name", PGQRS_SETTING_NAME, "pgqrsd", "PGQRS_NAME", 0, 0, NULL, TOP(name),
     "Tells several pgqrsd of one host apart that serve one database."},
    {"runtime_dir", PGQRS_SETTING_PATH, NULL, "PGQRS_RUNTIME_DIR", 0, 0, NULL, TOP(runtime_dir),
     "Directory for sockets; else $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/pgqrs or /tmp/pgqrs-UID."},
    {"queues", PGQRS_SETTING_QUEUES, NULL, NULL, 0, 0, NULL, TOP(queues),
     "The queues to serve, by name. Required."},
    {"schedules", PGQRS_SETTING_SCHEDULES, NULL, NULL, 0, 0, NULL, TOP(schedules),
     "What is enqueued at certain times, by name."},
    {"shutdown.drain", PGQRS_SETTING_DURATION, "25s", NULL, 0, DAY, NULL, TOP(drain_ms),
     "How long running jobs may take to finish when pgqrsd stops."},
    {"shutdown.cancel_grace", PGQRS_SETTING_DURATION, "3s", NULL, 0, HOUR, NULL,
     TOP(cancel_grace_ms),
     "Then, how long after being told to cancel, before the workers are killed."},
    {"start_timeout", PGQRS_SETTING_DURATION, "30s", NULL, 100, HOUR, NULL, TOP(start_timeout_ms),
     "How long a broker or worker may take to become ready."},
    {"heartbeat.interval", PGQRS_SETTING_DURATION, "1s", NULL, 50, HOUR, NULL,
     TOP(heartbeat_interval_ms), "How often a broker or worker says that it lives."},
    {"heartbeat.timeout", PGQRS_SETTING_DURATION, "30s", NULL, 150, DAY, NULL,
     TOP(heartbeat_timeout_ms), "Silence after which it is killed; at least 3 intervals."},
    {"lease", PGQRS_SETTING_DURATION, "30s", NULL, 3 * SECOND, DAY, NULL, TOP(lease_ms),
     "How long a job is leased at a time. Live workers' leases are renewed."},
    {"poll", PGQRS_SETTING_DURATION, "1s", NULL, 50, HOUR, NULL, TOP(poll_ms),
     "How often to look for jobs where nothing can say that there are any; else every 5 s."},
    {"free_foreign_leases", PGQRS_SETTING_DURATION, "0", NULL, 0, 365 * DAY, NULL,
     TOP(foreign_stale_ms),
     "Take expired leases away from other pgqrs clients that are silent for so long; 0: never. "
     "They do not beat while they work."},
    {"sqlite.synchronous", PGQRS_SETTING_CHOICE, "full", NULL, 0, 0, synchronous,
     TOP(synchronous_full),
     "full: what is stored survives a power cut; normal: it may lose the last moments, and is "
     "faster."},
    {"http.listen", PGQRS_SETTING_ADDRESS, NULL, "PGQRS_HTTP_LISTEN", 0, 0, NULL, TOP(http_listen),
     "Where health and metrics are served over HTTP; a port alone is one of 127.0.0.1. Else: off."},
    {"log.format", PGQRS_SETTING_CHOICE, "text", "PGQRS_LOG_FORMAT", 0, 0, formats,
     TOP(log_format), "How log lines on standard error look."},
    {"log.level", PGQRS_SETTING_CHOICE, "info", "PGQRS_LOG_LEVEL", 0, 0, levels, TOP(log_level),
     "The least important lines that are written."},
};

static const struct pgqrs_setting schedule_rows[] = {
    {"cron", PGQRS_SETTING_CRON, NULL, NULL, 0, 0, NULL, OF_SCHEDULE(cron),
     "When: five fields, or @daily and the like, or @every 90s; see pgqrs-cron(5). Required."},
    {"zone", PGQRS_SETTING_ZONE, "UTC", NULL, 0, 0, NULL, OF_SCHEDULE(zone),
     "The time zone of these fields."},
    {"queue", PGQRS_SETTING_QUEUE, NULL, NULL, 0, 0, NULL, OF_SCHEDULE(queue),
     "The queue that gets a job. Required, unless there is a workflow."},
    {"workflow", PGQRS_SETTING_QUEUE, NULL, NULL, 0, 0, NULL, OF_SCHEDULE(workflow),
     "Or the workflow that gets a run."},
    {"payload", PGQRS_SETTING_JSON, "{}", NULL, 0, 0, NULL, OF_SCHEDULE(payload),
     "The job's payload, or the run's input."},
    {"priority", PGQRS_SETTING_INTEGER, "0", NULL, INT32_MIN, INT32_MAX, NULL,
     OF_SCHEDULE(priority), "Of the job."},
    {"catch_up", PGQRS_SETTING_CHOICE, "skip", NULL, 0, 0, catch_ups, OF_SCHEDULE(catch_up),
     "What to do about times that passed while nobody was there: nothing, the last one, or all."},
    {"overlap", PGQRS_SETTING_CHOICE, "allow", NULL, 0, 0, overlaps, OF_SCHEDULE(overlap),
     "skip: not while the job of an earlier time has not ended."},
    {"paused", PGQRS_SETTING_CHOICE, NULL, NULL, 0, 0, pauses, OF_SCHEDULE(pause),
     "Paused or not, at every start and reload; else it stays as an operator has left it."},
};

static const struct pgqrs_setting queue_rows[] = {
    {"handler", PGQRS_SETTING_HANDLER, NULL, NULL, 0, 0, NULL, OF_QUEUE(handler),
     "The plugin: a path, or the name of one that was installed with pgqrsd. Required."},
    {"settings", PGQRS_SETTING_OBJECT, "{}", NULL, 0, 0, NULL, OF_QUEUE(settings),
     "Handed to the plugin's init as a JSON object."},
    {"consumers", PGQRS_SETTING_INTEGER, "1", NULL, 0, PGQRS_CONSUMERS_MAX, NULL,
     OF_QUEUE(consumers), "Worker processes; each runs one job at a time."},
    {"consumers.min", PGQRS_SETTING_INTEGER, "1", NULL, 0, PGQRS_CONSUMERS_MAX, NULL,
     OF_QUEUE(consumers_min), "Instead of a number: the fewest, when they follow the load."},
    {"consumers.max", PGQRS_SETTING_INTEGER, "0", NULL, 0, PGQRS_CONSUMERS_MAX, NULL,
     OF_QUEUE(consumers_max), "The most; needed with the others."},
    {"consumers.backlog_per_consumer", PGQRS_SETTING_INTEGER, "50", NULL, 1, 10000, NULL,
     OF_QUEUE(consumers_backlog), "One worker for so many waiting jobs."},
    {"consumers.wait", PGQRS_SETTING_DURATION, "10s", NULL, 100, DAY, NULL,
     OF_QUEUE(consumers_wait_ms), "One more whenever jobs have waited for so long."},
    {"consumers.cooldown", PGQRS_SETTING_DURATION, "1m", NULL, SECOND, DAY, NULL,
     OF_QUEUE(consumers_cooldown_ms), "Fewer when they were not needed for so long."},
    {"prefetch", PGQRS_SETTING_INTEGER, "1", NULL, 1, PGQRS_PREFETCH_MAX, NULL,
     OF_QUEUE(prefetch), "Jobs a worker may hold, the running one among them."},
    {"max_attempts", PGQRS_SETTING_INTEGER, "5", NULL, 1, 1000000, NULL, OF_QUEUE(max_attempts),
     "Attempts after which a job that does not succeed has failed for good."},
    {"on_crash", PGQRS_SETTING_INTEGER, "3", NULL, 1, 1000000, NULL, OF_QUEUE(max_crashes),
     "Quarantine a job that has crashed its worker so often, whatever attempts it has left."},
    {"timeout", PGQRS_SETTING_DURATION, "0", NULL, 0, 365 * DAY, NULL, OF_QUEUE(timeout_ms),
     "How long one attempt may take before it is told to cancel; 0: as long as it likes."},
    {"cancel_grace", PGQRS_SETTING_DURATION, "3s", NULL, 0, HOUR, NULL, OF_QUEUE(cancel_grace_ms),
     "Then, how long it may still take before its worker is killed."},
    {"log_lines", PGQRS_SETTING_INTEGER, "1000", NULL, 0, 1000000, NULL, OF_QUEUE(log_lines),
     "Lines of output a second that the log takes from each worker; 0: no limit."},
    {"retry.strategy", PGQRS_SETTING_CHOICE, "exponential", NULL, 0, 0, strategies,
     OF_QUEUE(retry_strategy), "exponential: the delay doubles with each attempt."},
    {"retry.base", PGQRS_SETTING_DURATION, "1s", NULL, 1, 30 * DAY, NULL, OF_QUEUE(retry_base_ms),
     "Delay before the second attempt."},
    {"retry.max", PGQRS_SETTING_DURATION, "10m", NULL, 1, 30 * DAY, NULL, OF_QUEUE(retry_max_ms),
     "The longest delay before jitter; at least retry.base."},
    {"retry.jitter", PGQRS_SETTING_CHOICE, "true", NULL, 0, 0, booleans, OF_QUEUE(retry_jitter),
     "Spread each delay by up to a quarter either way."},
    {"restart.max", PGQRS_SETTING_INTEGER, "20", NULL, 1, PGQRS_RESTARTS_MAX, NULL,
     OF_QUEUE(restart_max), "A queue with more deaths of workers in the window is failing."},
    {"restart.window", PGQRS_SETTING_DURATION, "1m", NULL, SECOND, DAY, NULL,
     OF_QUEUE(restart_window_ms), "How far back deaths count."},
    {"restart.retry", PGQRS_SETTING_DURATION, "30s", NULL, 100, DAY, NULL,
     OF_QUEUE(restart_retry_ms), "How often a failing queue tries to start a worker."},
    {"recycle.jobs", PGQRS_SETTING_INTEGER, "0", NULL, 0, 1000000000, NULL,
     OF_QUEUE(recycle_jobs), "Replace a worker after about so many jobs; 0: never."},
    {"recycle.age", PGQRS_SETTING_DURATION, "0", NULL, 0, 365 * DAY, NULL, OF_QUEUE(recycle_age_ms),
     "Replace it after about this time; 0: never."},
    {"recycle.memory", PGQRS_SETTING_SIZE, "0", NULL, 0, INT64_C(1) << 44, NULL,
     OF_QUEUE(recycle_memory), "Replace it when it has so much memory in use; 0: never."},
    {"on_done", PGQRS_SETTING_CHOICE, "archive", NULL, 0, 0, done_actions, OF_QUEUE(delete_done),
     "Keep a finished job with its result, or delete it."},
    {"sql", PGQRS_SETTING_CHOICE, "false", NULL, 0, 0, booleans, OF_QUEUE(sql),
     "Steps of its workflow may run statements in the queue's database."},
    {"keep.done", PGQRS_SETTING_DURATION, "0", NULL, 0, 3650 * DAY, NULL, OF_QUEUE(keep_done_ms),
     "Delete archived jobs after this time; 0: keep them for ever."},
    {"keep.failed", PGQRS_SETTING_DURATION, "0", NULL, 0, 3650 * DAY, NULL,
     OF_QUEUE(keep_failed_ms), "The same for dead letters."},
    {"isolation.user", PGQRS_SETTING_ACCOUNT, NULL, NULL, 0, 0, NULL, OF_QUEUE(isolation.user),
     "The user that the workers run as; pgqrsd must be root. Else: that of pgqrsd."},
    {"isolation.group", PGQRS_SETTING_ACCOUNT, NULL, NULL, 0, 0, NULL, OF_QUEUE(isolation.group),
     "Then, their group; else the user's own."},
    {"isolation.directory", PGQRS_SETTING_PATH, NULL, NULL, 0, 0, NULL,
     OF_QUEUE(isolation.directory), "The directory they work in; else that of pgqrsd."},
    {"isolation.environment", PGQRS_SETTING_NAMES, NULL, NULL, 0, 0, NULL,
     OF_QUEUE(isolation.environment),
     "The variables they get, * at the end for any rest; else all but those of pgqrsd."},
    {"isolation.nice", PGQRS_SETTING_INTEGER, "0", NULL, 0, 19, NULL, OF_QUEUE(isolation.nice),
     "How much nicer than pgqrsd they are to others, as nice(1) has it."},
    {"isolation.open_files", PGQRS_SETTING_INTEGER, "0", NULL, 0, 1000000000, NULL,
     OF_QUEUE(isolation.open_files), "Descriptors a worker may have, 64 at least; 0: as pgqrsd."},
    {"isolation.processes", PGQRS_SETTING_INTEGER, "0", NULL, 0, 1000000000, NULL,
     OF_QUEUE(isolation.processes), "Processes and threads their user may have; 0: as pgqrsd."},
    {"isolation.file_size", PGQRS_SETTING_SIZE, "0", NULL, 0, INT64_C(1) << 60, NULL,
     OF_QUEUE(isolation.file_size), "How large a file may get that they write; 0: as pgqrsd."},
    {"isolation.core", PGQRS_SETTING_SIZE, NULL, NULL, 0, INT64_C(1) << 60, NULL,
     OF_QUEUE(isolation.core),
     "How large a core dump may get; 0: none, and the worker is closed to others of its user."},
    {"isolation.memory", PGQRS_SETTING_SIZE, "0", NULL, 0, INT64_C(1) << 44, NULL,
     OF_QUEUE(isolation.memory), "Memory that a handler may allocate; 0: no limit."},
    {"isolation.no_new_privileges", PGQRS_SETTING_CHOICE, "false", NULL, 0, 0, booleans,
     OF_QUEUE(isolation.no_new_privileges),
     "Programs that a handler starts gain nothing by set-user-ID; seccomp implies it."},
    {"isolation.seccomp", PGQRS_SETTING_CHOICE, "off", NULL, 0, 0, filters,
     OF_QUEUE(isolation.seccomp),
     "default: system calls that no handler needs fail, such as ptrace, mount and bpf."},
};
/* clang-format on */

#define ROWS(table)                                                                                \
    {                                                                                              \
        .rows = (table), .count = sizeof(table) / sizeof *(table)                                  \
    }
const struct pgqrs_settings pgqrs_settings_top = ROWS(top_rows);
const struct pgqrs_settings pgqrs_settings_of_queue = ROWS(queue_rows);
const struct pgqrs_settings pgqrs_settings_of_schedule = ROWS(schedule_rows);

const struct pgqrs_setting *pgqrs_setting_find(const struct pgqrs_settings *settings,
                                               const char *key)
{
    for (size_t i = 0; i < settings->count; i++) {
        if (strcmp(settings->rows[i].key, key) == 0) {
            return &settings->rows[i];
        }
    }
    return NULL;
}

bool pgqrs_setting_is_group(const struct pgqrs_settings *settings, const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < settings->count; i++) {
        if (strncmp(settings->rows[i].key, key, len) == 0 && settings->rows[i].key[len] == '.') {
            return true;
        }
    }
    return false;
}

void pgqrs_setting_expects(const struct pgqrs_setting *setting, char *out, size_t size)
{
    char min[32];
    char max[32];
    switch (setting->type) {
    case PGQRS_SETTING_INTEGER:
        (void)snprintf(out, size, "a whole number from %" PRId64 " to %" PRId64, setting->min,
                       setting->max);
        return;
    case PGQRS_SETTING_DURATION:
        pgqrs_duration_format(setting->min, min, sizeof min);
        pgqrs_duration_format(setting->max, max, sizeof max);
        (void)snprintf(out, size, "a duration with a unit, from %s to %s", min, max);
        return;
    case PGQRS_SETTING_SIZE:
        pgqrs_size_format(setting->min, min, sizeof min);
        pgqrs_size_format(setting->max, max, sizeof max);
        (void)snprintf(out, size, "a size with a unit, from %s to %s", min, max);
        return;
    case PGQRS_SETTING_CHOICE:
        for (const struct pgqrs_choice *c = setting->choices; c->name != NULL; c++) {
            bool last = c[1].name == NULL;
            int n = snprintf(out, size, "%s%s", c->name, last ? "" : c[2].name ? ", " : " or ");
            out += n;
            size -= (size_t)n; /* choices are few and short */
        }
        return;
    case PGQRS_SETTING_PATH:
        (void)snprintf(out, size, "a path");
        return;
    case PGQRS_SETTING_DSN:
        (void)snprintf(out, size, PGQRS_EXPECTED_DSN);
        return;
    case PGQRS_SETTING_NAME:
        (void)snprintf(out, size, "1 to 63 letters, digits, dots, dashes or underscores");
        return;
    case PGQRS_SETTING_SCHEMA:
        (void)snprintf(out, size, "1 to 63 letters, digits, _ or $, beginning with a letter or _");
        return;
    case PGQRS_SETTING_HANDLER:
        (void)snprintf(out, size, "the path of a plugin or the name of an installed one");
        return;
    case PGQRS_SETTING_OBJECT:
        (void)snprintf(out, size, "a mapping");
        return;
    case PGQRS_SETTING_ACCOUNT:
        (void)snprintf(out, size, "a name or a number");
        return;
    case PGQRS_SETTING_NAMES:
        (void)snprintf(out, size, "a list of names of variables");
        return;
    case PGQRS_SETTING_QUEUES:
        (void)snprintf(out, size, "a mapping from queue names to their settings");
        return;
    case PGQRS_SETTING_SCHEDULES:
        (void)snprintf(out, size, "a mapping from schedules' names to their settings");
        return;
    case PGQRS_SETTING_CRON:
        (void)snprintf(out, size, "a cron expression, such as 30 2 * * *");
        return;
    case PGQRS_SETTING_ZONE:
        (void)snprintf(out, size, "a time zone, such as Europe/Berlin");
        return;
    case PGQRS_SETTING_QUEUE:
        (void)snprintf(out, size, "the name of one of the queues");
        return;
    case PGQRS_SETTING_JSON:
        (void)snprintf(out, size, "any value");
        return;
    case PGQRS_SETTING_ADDRESS:
        (void)snprintf(out, size, PGQRS_EXPECTED_ADDRESS);
        return;
    case PGQRS_SETTING_NONE:
        break;
    }
    *out = 0;
}

/* ---- storing ---- */

static int bad_value(const struct pgqrs_setting *setting, const char *text, struct pgqrs_error *err)
{
    char expected[128];
    pgqrs_setting_expects(setting, expected, sizeof expected);
    return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found \"%.60s\", expected %s", text, expected);
}

static bool is_name(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return len > 0 && len <= PGQRS_SITE_NAME_MAX && text[len] == 0;
}

static bool is_schema(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_$");
    return len > 0 && len <= PGQRS_SCHEMA_MAX && text[len] == 0 &&
           strchr("0123456789$", *text) == NULL;
}

static void store_number(const struct pgqrs_setting *setting, void *object, int64_t value)
{
    char *to = (char *)object + setting->offset;
    if (setting->size == sizeof(bool)) {
        bool flag = value != 0;
        memcpy(to, &flag, sizeof flag);
    } else if (setting->size == sizeof(unsigned)) {
        unsigned number = (unsigned)value;
        memcpy(to, &number, sizeof number);
    } else {
        memcpy(to, &value, sizeof value);
    }
}

static void store_text(const struct pgqrs_setting *setting, void *object, char *text)
{
    char *to = (char *)object + setting->offset;
    char *old;
    memcpy(&old, to, sizeof old);
    free(old);
    memcpy(to, &text, sizeof text);
}

static int check_text(const struct pgqrs_setting *setting, const char *text,
                      struct pgqrs_error *err)
{
    struct pgqrs_cron cron;
    struct pgqrs_timezone *zone = NULL;
    struct pgqrs_error why = {0};
    int rc = 0;
    if (*text == 0 || strlen(text) > PGQRS_SCHEDULE_TEXT_MAX) {
        return bad_value(setting, text, err);
    }
    if (setting->type == PGQRS_SETTING_CRON) {
        rc = pgqrs_cron_parse(text, &cron, &why);
    } else if (setting->type == PGQRS_SETTING_ZONE) {
        rc = pgqrs_timezone_open(text, &zone, &why);
        pgqrs_timezone_close(&zone);
    }
    return rc < 0 ? pgqrs_error_set(err, PGQRS_ERR_CONFIG, "%s", why.text) : 0;
}

static int parse_number(const struct pgqrs_setting *setting, const char *text, int64_t *value_out)
{
    int64_t value = 0;
    if (setting->type == PGQRS_SETTING_CHOICE) {
        for (const struct pgqrs_choice *c = setting->choices; c->name != NULL; c++) {
            if (strcmp(c->name, text) == 0) {
                *value_out = c->value;
                return 0;
            }
        }
        return -1;
    }
    if (setting->type == PGQRS_SETTING_INTEGER) {
        return pgqrs_integer_parse(text, setting->min, setting->max, value_out, NULL);
    }
    int rc = setting->type == PGQRS_SETTING_SIZE ? pgqrs_size_parse(text, &value, NULL)
                                                 : pgqrs_duration_parse(text, &value, NULL);
    if (rc < 0 || value < setting->min || value > setting->max) {
        return -1;
    }
    *value_out = value;
    return 0;
}

int pgqrs_setting_store(const struct pgqrs_setting *setting, void *object, const char *text,
                        const char *dir, struct pgqrs_error *err)
{
    int64_t number;
    char *found = NULL;
    int rc = 0;
    switch (setting->type) {
    case PGQRS_SETTING_INTEGER:
    case PGQRS_SETTING_DURATION:
    case PGQRS_SETTING_SIZE:
    case PGQRS_SETTING_CHOICE:
        if (parse_number(setting, text, &number) < 0) {
            return bad_value(setting, text, err);
        }
        store_number(setting, object, number);
        return 0;
    case PGQRS_SETTING_PATH:
        rc = pgqrs_locate_path(text, dir, &found, err);
        break;
    case PGQRS_SETTING_DSN:
        if (strncmp(text, "broker:", 7) == 0) { /* it is for those who ask one */
            return bad_value(setting, "broker:...", err);
        }
        rc = pgqrs_locate_dsn(text, dir, &found, err);
        break;
    case PGQRS_SETTING_NAME:
    case PGQRS_SETTING_SCHEMA:
        if (!(setting->type == PGQRS_SETTING_NAME ? is_name : is_schema)(text)) {
            return bad_value(setting, text, err);
        }
        found = strdup(text);
        rc = found == NULL ? pgqrs_error_memory(err) : 0;
        break;
    case PGQRS_SETTING_ADDRESS:
        if (pgqrs_address_parse(text, &(struct pgqrs_address){0}) < 0) {
            return bad_value(setting, text, err);
        }
        found = strdup(text);
        rc = found == NULL ? pgqrs_error_memory(err) : 0;
        break;
    case PGQRS_SETTING_HANDLER:
        rc = pgqrs_locate_handler(text, dir, &found, err);
        break;
    case PGQRS_SETTING_ACCOUNT:
    case PGQRS_SETTING_CRON:
    case PGQRS_SETTING_ZONE:
    case PGQRS_SETTING_QUEUE:
        if (check_text(setting, text, err) < 0) {
            return -1;
        }
        found = strdup(text);
        rc = found == NULL ? pgqrs_error_memory(err) : 0;
        break;
    case PGQRS_SETTING_OBJECT:
    case PGQRS_SETTING_JSON:
    case PGQRS_SETTING_NAMES:
        found = strdup(text);
        rc = found == NULL ? pgqrs_error_memory(err) : 0;
        break;
    case PGQRS_SETTING_NONE:
    case PGQRS_SETTING_QUEUES:
    case PGQRS_SETTING_SCHEDULES:
        return bad_value(setting, text, err);
    }
    if (rc == 0) {
        store_text(setting, object, found);
    }
    return rc;
}

int pgqrs_settings_defaults(const struct pgqrs_settings *settings, void *object,
                            struct pgqrs_error *err)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct pgqrs_setting *row = &settings->rows[i];
        if (row->def != NULL && pgqrs_setting_store(row, object, row->def, "/", err) < 0) {
            return -1;
        }
    }
    return 0;
}

int pgqrs_settings_environment(const struct pgqrs_settings *settings, void *object,
                               struct pgqrs_error *err)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct pgqrs_setting *row = &settings->rows[i];
        struct pgqrs_variable variable = {0};
        if (row->variable == NULL) {
            continue;
        }
        if (pgqrs_variable_read(row->variable, row->type == PGQRS_SETTING_DSN, &variable, err) <
            0) {
            return -1;
        }
        int rc = 0;
        if (variable.text != NULL &&
            pgqrs_setting_store(row, object, variable.text, ".", err) < 0) {
            rc = pgqrs_variable_refused(&variable, err);
        }
        pgqrs_variable_fini(&variable);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}
