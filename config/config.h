/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CONFIG_CONFIG_H
#define PGQRS_CONFIG_CONFIG_H

/*
 * The configuration: one YAML file, PGQRS_* environment variables over it, flags over both.
 * Everything is checked here; what comes out can be used as it is. Every error names file, line,
 * key, what was found and what was expected; an unknown key is an error.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

struct pgqrs_config_isolation {
    char *user, *group; /* null: as pgqrsd */
    uint32_t uid, gid;  /* of these; uid 0: as pgqrsd */
    char *directory;    /* it exists; null: as pgqrsd */
    char *environment;  /* names with a space behind each, * at an end; null: everything */
    int64_t nice;       /* added to pgqrsd's */
    int64_t open_files, processes, file_size, memory; /* 0: no limit of its own */
    int64_t core;                                     /* bytes; -1: as pgqrsd */
    bool no_new_privileges, seccomp;
};

struct pgqrs_config_queue {
    char *name;
    char *handler;     /* absolute path of the plugin; the file exists and can be read */
    char *settings;    /* JSON object, "{}" when none are given */
    int64_t consumers; /* worker processes, 0 to 1024; at the start, when they follow the load */
    int64_t consumers_min, consumers_max; /* max 0: they do not */
    int64_t consumers_backlog, consumers_wait_ms, consumers_cooldown_ms;
    int64_t prefetch; /* jobs a worker may hold, the running one among them, 1 to 1000 */
    int64_t max_attempts;
    int64_t max_crashes;     /* `on_crash` */
    int64_t timeout_ms;      /* of one attempt; 0: none */
    int64_t cancel_grace_ms; /* then, how long after being told to cancel */
    int64_t log_lines;       /* of output that a worker may log a second; 0: no limit */
    int64_t retry_strategy;  /* enum pgqrs_retry_strategy of ipc/msg.h */
    int64_t retry_base_ms, retry_max_ms;
    bool retry_jitter;
    int64_t restart_max, restart_window_ms, restart_retry_ms;
    int64_t recycle_jobs, recycle_age_ms, recycle_memory; /* bytes; each 0: never */
    bool delete_done;                                     /* `on_done: delete` */
    bool sql;                                             /* steps may bring statements */
    int64_t keep_done_ms, keep_failed_ms;                 /* keep.done, keep.failed; 0: for ever */
    struct pgqrs_config_isolation isolation;
};

struct pgqrs_config_schedule {
    char *name;
    char *cron, *zone;
    char *queue, *workflow; /* one of them; the other is null */
    char *payload;          /* JSON; of a workflow: wrapped */
    int64_t priority;
    int64_t catch_up, overlap; /* enums of store/schedule.h */
    int64_t pause;
};

struct pgqrs_config {
    char *name; /* of this pgqrsd among those of its host */
    char *dsn;
    char *schema;      /* PostgreSQL: where the tables are */
    char *wake_dsn;    /* PostgreSQL: null: the same as dsn */
    char *runtime_dir; /* null: chosen by pgqrsd */
    char *http_listen; /* an address of base/address.h; null: no gateway */
    struct pgqrs_config_queue *queues;
    size_t queue_count;
    struct pgqrs_config_schedule *schedules;
    size_t schedule_count;
    int64_t drain_ms;        /* shutdown.drain: how long running jobs may take to finish */
    int64_t cancel_grace_ms; /* shutdown.cancel_grace: then, how long after being told to cancel */
    int64_t start_timeout_ms;
    int64_t heartbeat_interval_ms, heartbeat_timeout_ms;
    int64_t lease_ms, poll_ms;
    int64_t foreign_stale_ms; /* free_foreign_leases; 0: never */
    bool synchronous_full;    /* sqlite.synchronous */
    enum pgqrs_log_format log_format;
    enum pgqrs_log_level log_level;
};

/*
 * Reads the file, then the environment. PGQRS_ERR_CONFIG with the reason. Relative paths in the
 * file are relative to the file's directory; a handler without a slash and without ".so" is one
 * of those installed with pgqrsd.
 */
int pgqrs_config_load(const char *path, struct pgqrs_config **config_out,
                      struct pgqrs_error *err) PGQRS_MUST_CHECK;
#define PGQRS_SYSTEM_CONFIG "/etc/pgqrs/pgqrsd.yaml"

/* Only the DSN: --dsn over PGQRS_DSN over the file (path null: PGQRS_CONFIG_FILE, then none).
 * For the command line, which needs no queues. Free *dsn_out. */
int pgqrs_config_find_dsn(const char *dsn_flag, const char *path, char **dsn_out,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* The schema, likewise: --schema over PGQRS_SCHEMA over the file over "public". Free *schema_out.
 */
int pgqrs_config_find_schema(const char *schema_flag, const char *path, char **schema_out,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* PGQRS_WAKE_DSN or PGQRS_WAKE_DSN_FILE over the file; *dsn_out is null when neither names one.
 * Free it. */
int pgqrs_config_find_wake_dsn(const char *path, char **dsn_out,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Which pgqrsd is meant, and where its sockets are: PGQRS_* over the file over the defaults. Free
 * both; *dir_out is null when nothing names one. */
int pgqrs_config_find_runtime(const char *path, char **name_out, char **dir_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_config_destroy(struct pgqrs_config **config);
/* Takes the i-th queue out of the configuration, where an empty one is left. */
struct pgqrs_config_queue pgqrs_config_take_queue(struct pgqrs_config *config, size_t i);
void pgqrs_config_queue_fini(struct pgqrs_config_queue *queue);

void pgqrs_config_schedules_fini(struct pgqrs_config *config);

/* Prints every setting with its default and help, as the man page shows them. */
void pgqrs_config_print_settings(void);

#endif
