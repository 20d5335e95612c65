/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_DOCTOR_H
#define PGQRS_CLI_DOCTOR_H

/* What the checks of pgqrs doctor share. A check is a row of the table in cmd_doctor.c. */

#include <jansson.h>

#include "cli/cli.h"
#include "cli/output.h"

#define PGQRS_DOCTOR_STALE_US                                                                      \
    INT64_C(60000000) /* a worker that has not beaten for so long is dead */

enum pgqrs_severity {
    PGQRS_SEVERITY_INFO = 0, /* on purpose, perhaps */
    PGQRS_SEVERITY_WARNING,  /* jobs have failed, or will */
    PGQRS_SEVERITY_ERROR,    /* something does not go on */
    PGQRS_SEVERITY_COUNT
};

struct pgqrs_doctor_queue {
    struct pgqrs_queue_metrics messages;
    struct pgqrs_worker_stats workers;
    const json_t *served; /* what the running pgqrsd says of it; null: it does not serve it */
};

struct pgqrs_doctor {
    struct pgqrs_cli *cli;
    char *dsn;
    json_t *pgqrsd; /* status of the one that runs; null: none was found */
    struct pgqrs_queue_list queues;
    struct pgqrs_doctor_queue *facts; /* of each queue */
    int64_t now_us;                   /* the store's clock */
    bool schema_is_bad;               /* what else fails is no news */

    const char *check; /* the one that looks */
    size_t found;
    enum pgqrs_severity severity;
    char text[1024]; /* of the finding whose command is to come */
    struct pgqrs_json json;
};

/* A finding: what was found, then the command that mends it, which ends the line. */
void pgqrs_doctor_found(struct pgqrs_doctor *d, enum pgqrs_severity severity, const char *fmt, ...)
    PGQRS_PRINTF(3, 4);
void pgqrs_doctor_mend(struct pgqrs_doctor *d, const char *fmt, ...) PGQRS_PRINTF(2, 3);

#define PGQRS_SHELL_WORD_SIZE 1040
/* As a shell takes it for one word; a name of a queue, cut where it is longer. */
const char *pgqrs_shell_word(const char *text, char out[PGQRS_SHELL_WORD_SIZE]);

#define PGQRS_PLURAL(n) ((n) == 1 ? "" : "s")

/* Texts and numbers of a status; "" and 0 when they are not there. */
const char *pgqrs_status_text(const json_t *object, const char *key);
int64_t pgqrs_status_number(const json_t *object, const char *key);

/* The disk of this file or directory, if it can be seen and is nearly full. */
void pgqrs_doctor_tell_disk(struct pgqrs_doctor *d, const char *path);
void pgqrs_check_disk(struct pgqrs_doctor *d); /* before the store is open */
/* Each tells all it finds; -1: it can not look. */
typedef int pgqrs_check_fn(struct pgqrs_doctor *d, struct pgqrs_error *err);

pgqrs_check_fn pgqrs_check_schema, pgqrs_check_clock, pgqrs_check_snapshots;
pgqrs_check_fn pgqrs_check_pooler, pgqrs_check_server_disk;
pgqrs_check_fn pgqrs_check_failing, pgqrs_check_dying, pgqrs_check_plugins;
pgqrs_check_fn pgqrs_check_dead_leases, pgqrs_check_paused, pgqrs_check_unserved,
    pgqrs_check_dead_letters, pgqrs_check_spent;
pgqrs_check_fn pgqrs_check_cancelling, pgqrs_check_awaited_events, pgqrs_check_schedules;

#endif
