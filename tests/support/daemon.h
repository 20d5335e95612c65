/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_DAEMON_H
#define PGQRS_TESTS_SUPPORT_DAEMON_H

/*
 * A real pgqrsd in a scratch directory, for integration tests and benchmarks. Everything waits for
 * a state with a deadline; a failure ends the test with what was awaited and the daemon's log.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WAIT_MS 20000 /* generous: a test fails by it, never passes by it */

struct scratch {
    char dir[64];
    char db[96];      /* DIR/queue.db */
    char dsn[104];    /* sqlite:DB */
    char effects[96]; /* DIR/effects: what tests/handlers/effect.c writes */
};

void scratch_create(struct scratch *s);
void scratch_remove(struct scratch *s);
/* Writes DIR/name. */
void scratch_write(const struct scratch *s, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* DIR/name becomes a link to target in one step, as a deploy should put a file. */
void scratch_link(const struct scratch *s, const char *name, const char *target);
/* The same with a copy, so that the file that was there before has no name any more. */
void scratch_copy(const struct scratch *s, const char *name, const char *source);

/* The path of a built file below the build directory ($PGQRS_TEST_BUILD). Static storage. */
const char *built(const char *relative);

struct daemon {
    const struct scratch *scratch;
    pid_t pid;
    uid_t uid; /* run as this user; 0: as the test does */
    char log[96];
};

/* Writes DIR/pgqrsd.yaml: dsn, quick timers, then what fmt says, which begins with "queues:". */
void daemon_config(const struct scratch *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Starts pgqrsd with DIR/pgqrsd.yaml; its log goes to DIR/log, appended. */
void daemon_start(struct daemon *d, const struct scratch *s);
/* Waits until the log has text, count times. */
void daemon_await_log(const struct daemon *d, const char *text, int count);
bool daemon_log_has(const struct daemon *d, const char *text);
int daemon_log_count(const struct daemon *d, const char *text);
/* What a sanitizer or valgrind says of any process of the daemon is in its log: true when there is
 * nothing of the kind. */
bool daemon_is_clean(const struct daemon *d);
/* Waits for the exit status; 128 + signal when it was killed. */
int daemon_wait(struct daemon *d);
int daemon_stop(struct daemon *d, int signal);
/* pids of processes whose parent is the daemon and whose program has this name. */
size_t daemon_children(const struct daemon *d, const char *program, pid_t *pids, size_t max);
/* Waits until there are so many and returns the first. */
pid_t daemon_await_children(const struct daemon *d, const char *program, size_t count);

/* What most integration tests stand on: cmocka setup and teardown functions. */
struct fixture {
    struct scratch scratch;
    struct daemon daemon;
};
int fixture_setup(void **state);
int fixture_teardown(void **state); /* stops the daemon if it still runs */
/* Starts a daemon with one queue "work" on tests/handlers/effect.so and more settings of it, one
 * a line, and waits for its first worker. */
void fixture_start(struct fixture *f, const char *queue_settings);
/* Adds so many jobs to "work", each with this payload. */
void fixture_enqueue(const struct fixture *f, int count, const char *payload);

/* One number from the database, through a connection of its own. */
int64_t db_number(const struct scratch *s, const char *sql);
void db_exec(const struct scratch *s, const char *sql);
/* Nobody can write to it until it is unlocked. */
struct sqlite3 *db_lock(const struct scratch *s);
void db_unlock(struct sqlite3 *db);
void db_await(const struct scratch *s, const char *sql, int64_t value);

/* Runs bin/pgqrs with --dsn and the words, null at the end; input may be null. Returns the exit
 * status; what it printed is in DIR/out. */
int cli(const struct scratch *s, const char *input, ...) __attribute__((sentinel));
/* As cli, and fails the test unless it exits 0. */
#define cli_ok(s, input, ...) assert_int_equal(cli(s, input, __VA_ARGS__, (char *)NULL), 0)

/* Lines of DIR/effects that begin with this. */
int effects_count(const struct scratch *s, const char *prefix);
void effects_await(const struct scratch *s, const char *prefix, int count);

typedef bool condition_fn(const void *arg);
/* True when the condition holds before the deadline. */
bool wait_for(condition_fn *condition, const void *arg, int64_t ms);
bool process_gone(pid_t pid); /* it does not exist, or is a zombie */

#endif
