/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "base/log.h"
#include "base/units.h"
#include "supervisor/supervisor.h"

#define SECONDS_MAX (INT64_C(366) * 86400)

void pgqrs_check_found(struct check *c, enum pgqrs_check_mark mark, const char *fmt, ...)
{
    char text[PGQRS_CHECK_TEXT_MAX];
    char shown[4 * sizeof text];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)pgqrs_escape(shown, sizeof shown, text, strlen(text), false, NULL);
    (void)printf("%-7s  %s\n",
                 mark == PGQRS_CHECK_INFO      ? "info"
                 : mark == PGQRS_CHECK_WARNING ? "warning"
                                               : "error",
                 shown);
    (void)fflush(stdout); /* the next may take a while; main sees errors */
    c->found += mark == PGQRS_CHECK_INFO ? 0 : 1;
}

/* ---- the grace period ---- */

/* A bare number counts seconds, as elsewhere in a container's description. */
static int parse_grace(const char *text, int64_t *ms_out, struct pgqrs_error *err)
{
    int64_t seconds;
    if (pgqrs_integer_parse(text, 0, SECONDS_MAX, &seconds, NULL) == 0) {
        *ms_out = seconds * 1000;
        return 0;
    }
    return pgqrs_duration_parse(text, ms_out, err);
}

static void check_grace(struct check *c, int64_t grace_ms, const char *from)
{
    char drain[32];
    char cancel[32];
    char grace[32];
    if (c->config->drain_ms + c->config->cancel_grace_ms < grace_ms) {
        return;
    }
    pgqrs_duration_format(c->config->drain_ms, drain, sizeof drain);
    pgqrs_duration_format(c->config->cancel_grace_ms, cancel, sizeof cancel);
    pgqrs_duration_format(grace_ms, grace, sizeof grace);
    pgqrs_check_found(
        c, PGQRS_CHECK_WARNING,
        "shutdown: drain and cancel_grace, %s and %s, leave nothing of the grace "
        "period of %s (%s): pgqrsd would be killed before it has given back what runs",
        drain, cancel, grace, from);
}

/* ---- what children look at ---- */

static void check_plugin(struct check *c, const struct pgqrs_config_queue *queue)
{
    char what[PGQRS_NAME_MAX + 16];
    const struct pgqrs_worker_welcome m = {
        .queue = queue->name,
        .handler = queue->handler,
        .settings = queue->settings,
        .job_socket = "",
        .prefetch = (uint32_t)queue->prefetch,
        .max_attempts = (uint32_t)queue->max_attempts,
        .heartbeat_ms = c->config->heartbeat_interval_ms,
        .timeout_ms = queue->timeout_ms,
        .cancel_grace_ms = queue->cancel_grace_ms,
        .isolation = pgqrs_worker_isolation(&queue->isolation),
    };
    (void)snprintf(what, sizeof what, "queue \"%s\"", queue->name);
    struct check_child child = {
        .what = what, .role = PGQRS_ROLE_WORKER, .isolation = &queue->isolation};
    pgqrs_encode_worker_welcome(&child.welcome, &m);
    pgqrs_check_child(c, &child);
}

static void check_store(struct check *c)
{
    const struct pgqrs_config *config = c->config;
    struct check_child child = {.what = "store", .role = PGQRS_ROLE_BROKER};
    struct pgqrs_queue_settings *queues = calloc(config->queue_count + 1, sizeof *queues);
    if (queues == NULL) {
        pgqrs_check_found(c, PGQRS_CHECK_ERROR, "store: out of memory");
        return;
    }
    for (size_t i = 0; i < config->queue_count; i++) {
        queues[i] = pgqrs_configured_settings(&config->queues[i]);
    }
    pgqrs_encode_broker_welcome(&child.welcome,
                                &(struct pgqrs_broker_welcome){
                                    .instance = "check",
                                    .name = config->name,
                                    .dsn = config->dsn,
                                    .schema = config->schema,
                                    .wake_dsn = config->wake_dsn == NULL ? "" : config->wake_dsn,
                                    .lease_ms = config->lease_ms,
                                    .poll_ms = config->poll_ms,
                                    .heartbeat_ms = config->heartbeat_interval_ms,
                                    .foreign_stale_ms = config->foreign_stale_ms,
                                    .synchronous_full = config->synchronous_full,
                                    .queues = queues,
                                    .queue_count = config->queue_count,
                                });
    free(queues);
    pgqrs_check_child(c, &child);
}

/* ---- all of it ---- */

int pgqrs_check_run(const struct pgqrs_config *config, const char *path, const char *grace,
                    const char *grace_from)
{
    struct check c = {.config = config};
    struct pgqrs_error err;
    int64_t grace_ms = INT64_MAX;
    if (grace != NULL && parse_grace(grace, &grace_ms, &err) < 0) {
        pgqrs_log_error("%s: %s", grace_from, err.text);
        return PGQRS_EXIT_USAGE;
    }
    check_grace(&c, grace_ms, grace_from);
    pgqrs_check_host(&c);
    for (size_t i = 0; i < config->queue_count; i++) {
        check_plugin(&c, &config->queues[i]);
    }
    check_store(&c);
    if (c.found == 0) {
        (void)printf("%s: configuration is good, %zu %s\n", path, config->queue_count,
                     config->queue_count == 1 ? "queue" : "queues");
    }
    return c.found == 0 && fflush(stdout) == 0 ? PGQRS_EXIT_OK : PGQRS_EXIT_FAILURE;
}
