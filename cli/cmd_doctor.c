/* SPDX-License-Identifier: Apache-2.0 */
/* Names the cause of what is stuck, and the command that mends it. */
#include "cli/doctor.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ctl_link.h"
#include "cli/runs.h"
#include "config/config.h"

static int read_queues(struct pgqrs_doctor *d, struct pgqrs_error *err);

static const struct {
    const char *name;
    pgqrs_check_fn *look;
} checks[] = {
    {"schema", pgqrs_check_schema},
    {"clock", pgqrs_check_clock},
    {"old_snapshot", pgqrs_check_snapshots},
    {"pooler", pgqrs_check_pooler},
    {"server_disk", pgqrs_check_server_disk},
    {"failing_queue", pgqrs_check_failing},
    {"dying_process", pgqrs_check_dying},
    {"changed_plugin", pgqrs_check_plugins},
    {"queues", read_queues},
    {"dead_leases", pgqrs_check_dead_leases},
    {"paused_queue", pgqrs_check_paused},
    {"unserved_queue", pgqrs_check_unserved},
    {"dead_letters", pgqrs_check_dead_letters},
    {"spent_attempts", pgqrs_check_spent},
    {"cancelling_run", pgqrs_check_cancelling},
    {"awaited_event", pgqrs_check_awaited_events},
    {"schedule", pgqrs_check_schedules},
};

/* ---- findings ---- */

static const char *const severities[PGQRS_SEVERITY_COUNT] = {
    [PGQRS_SEVERITY_INFO] = "info",
    [PGQRS_SEVERITY_WARNING] = "warning",
    [PGQRS_SEVERITY_ERROR] = "error",
};

void pgqrs_doctor_found(struct pgqrs_doctor *d, enum pgqrs_severity severity, const char *fmt, ...)
{
    va_list args;
    d->severity = severity;
    va_start(args, fmt);
    (void)vsnprintf(d->text, sizeof d->text, fmt, args);
    va_end(args);
}

static void print_finding(const char *severity, const char *text, const char *command)
{
    struct pgqrs_buf shown = {0};
    pgqrs_show(&shown, text);
    pgqrs_buf_put(&shown, "; to mend it: ", 14);
    pgqrs_show(&shown, command);
    pgqrs_buf_put_u8(&shown, 0);
    (void)printf("%-7s  %s\n", severity, shown.failed ? "?" : (char *)shown.data);
    pgqrs_buf_fini(&shown);
}

void pgqrs_doctor_mend(struct pgqrs_doctor *d, const char *fmt, ...)
{
    const char *severity = severities[d->severity];
    char command[4 * PGQRS_SHELL_WORD_SIZE];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    d->found++;
    if (!d->cli->json) {
        print_finding(severity, d->text, command);
        return;
    }
    pgqrs_json_begin(&d->json, NULL, '{');
    pgqrs_json_text(&d->json, "severity", severity);
    pgqrs_json_text(&d->json, "check", d->check);
    pgqrs_json_text(&d->json, "found", d->text);
    pgqrs_json_text(&d->json, "command", command);
    pgqrs_json_end(&d->json, '}');
}

const char *pgqrs_shell_word(const char *text, char out[PGQRS_SHELL_WORD_SIZE])
{
    size_t at = 0;
    bool plain = *text != 0;
    for (const char *c = text; *c != 0; c++) {
        plain = plain && (isalnum((unsigned char)*c) != 0 || strchr("_./:@%+,-", *c) != NULL);
    }
    if (plain) {
        (void)snprintf(out, PGQRS_SHELL_WORD_SIZE, "%s", text);
        return out;
    }
    out[at++] = '\'';
    for (const char *c = text; *c != 0 && at + 6 < PGQRS_SHELL_WORD_SIZE; c++) {
        if (*c == '\'') {
            memcpy(out + at, "'\\'", 3);
            at += 3;
        }
        out[at++] = *c;
    }
    out[at++] = '\'';
    out[at] = 0;
    return out;
}

/* ---- what the checks look at ---- */

const char *pgqrs_status_text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value == NULL ? "" : value;
}

int64_t pgqrs_status_number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const json_t *find_served(const struct pgqrs_doctor *d, const char *name)
{
    const json_t *queues = json_object_get(d->pgqrsd, "queues");
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        if (strcmp(pgqrs_status_text(queue, "queue"), name) == 0) {
            return queue;
        }
    }
    return NULL;
}

static int read_queues(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    struct pgqrs_store *store = d->cli->store;
    if (pgqrs_cli_list_queues(d->cli, &d->queues) != PGQRS_CLI_OK) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "the queues can not be read");
    }
    d->facts = calloc(d->queues.count + 1, sizeof *d->facts);
    if (d->facts == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < d->queues.count; i++) {
        struct pgqrs_doctor_queue *facts = &d->facts[i];
        int64_t id = d->queues.items[i].id;
        int rc;
        facts->served = find_served(d, d->queues.items[i].name);
        PGQRS_RUN_TRY(rc, err,
                      pgqrs_store_queue_metrics(store, id, PGQRS_COUNT_MAX, &facts->messages, err));
        if (rc < 0) {
            return -1;
        }
        PGQRS_RUN_TRY(rc, err,
                      pgqrs_store_worker_stats(store, id, PGQRS_DOCTOR_STALE_US / 1000,
                                               &facts->workers, err));
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- looking ---- */

/* A pgqrsd that does not run is no error, unless its socket was named. */
static int ask_pgqrsd(struct pgqrs_doctor *d)
{
    struct pgqrs_error err;
    if (pgqrs_ctl_try(d->cli, json_pack("{s:s}", "command", "status"), &d->pgqrsd, &err) == 0 ||
        d->cli->options[PGQRS_OPT_SOCKET] == NULL) {
        return PGQRS_CLI_OK;
    }
    return pgqrs_cli_fail(&err);
}

/* A full disk may be why the store does not open. */
static int look(struct pgqrs_doctor *d)
{
    d->check = "disk";
    pgqrs_check_disk(d);
    (void)fflush(stdout); /* the next may take a while then; pgqrs_output_flush sees errors */
    int status = pgqrs_cli_open(d->cli);
    if (status != PGQRS_CLI_OK) {
        return status;
    }
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        struct pgqrs_error err;
        d->check = checks[i].name;
        if (checks[i].look(d, &err) < 0) {
            if (d->schema_is_bad) {
                return PGQRS_CLI_OK;
            }
            (void)pgqrs_error_prefix(&err, "%s can not be checked", d->check);
            return pgqrs_cli_fail(&err);
        }
    }
    return PGQRS_CLI_OK;
}

static int look_and_tell(struct pgqrs_doctor *d)
{
    if (d->cli->json) {
        pgqrs_json_begin(&d->json, NULL, '[');
    }
    int status = look(d);
    if (d->cli->json) {
        pgqrs_json_end(&d->json, ']');
    } else if (status == PGQRS_CLI_OK && d->found == 0) {
        (void)puts("nothing was found");
    }
    return status == PGQRS_CLI_OK && d->found > 0 ? PGQRS_CLI_FAILURE : status;
}

int pgqrs_cmd_doctor(struct pgqrs_cli *cli)
{
    struct pgqrs_doctor d = {.cli = cli};
    struct pgqrs_error err;
    int status = PGQRS_CLI_OK;
    if (pgqrs_config_find_dsn(cli->options[PGQRS_OPT_DSN], pgqrs_cli_store_config(cli), &d.dsn,
                              &err) < 0) {
        status = pgqrs_cli_fail(&err);
    }
    if (status == PGQRS_CLI_OK) {
        status = ask_pgqrsd(&d);
    }
    if (status == PGQRS_CLI_OK) {
        status = look_and_tell(&d);
    }
    json_decref(d.pgqrsd);
    pgqrs_queue_list_fini(&d.queues);
    free(d.facts);
    free(d.dsn);
    return status;
}
