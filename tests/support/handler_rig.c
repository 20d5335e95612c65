/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/handler_rig.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"

#define WAIT_MS 20000

static void load(struct handler_rig *rig, const char *name)
{
    char path[4096];
    struct pgqrs_error err;
    *rig = (struct handler_rig){0};
    (void)snprintf(path, sizeof path, "%s/lib/pgqrs/handlers/%s.so", getenv("PGQRS_TEST_BUILD"),
                   name);
    if (pgqrs_plugin_load(path, &rig->plugin, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

void handler_open(struct handler_rig *rig, const char *name, const char *settings)
{
    struct pgqrs_error err;
    load(rig, name);
    if (pgqrs_host_create("mail", 5, &rig->host, &err) < 0 ||
        pgqrs_plugin_init(&rig->plugin, "mail", settings, &pgqrs_host_functions, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static void forget_result(struct handler_rig *rig)
{
    free(rig->error);
    free(rig->output);
    rig->error = rig->output = NULL;
}

void handler_close(struct handler_rig *rig)
{
    pgqrs_plugin_fini(&rig->plugin);
    pgqrs_host_destroy(&rig->host);
    forget_result(rig);
}

void handler_refuses(const char *name, const char *settings, const char *words)
{
    struct handler_rig rig;
    struct pgqrs_error err = {0};
    load(&rig, name);
    assert_int_equal(pgqrs_plugin_init(&rig.plugin, "mail", settings, &pgqrs_host_functions, &err),
                     -1);
    if (strstr(err.text, words) == NULL) {
        fail_msg("found \"%s\", expected \"%s\" in it", err.text, words);
    }
}

struct canceller {
    struct pgqrs_job_host *host;
    const char *file;
};

/* On a thread of its own. */
static void *cancel_later(void *arg)
{
    const struct canceller *c = arg;
    const struct timespec slice = {.tv_nsec = 2000000};
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    struct stat about = {0};
    while ((stat(c->file, &about) < 0 || about.st_size == 0) && pgqrs_mono_ms() < deadline) {
        (void)nanosleep(&slice, NULL);
    }
    pgqrs_host_cancel(c->host, 0);
    return NULL;
}

static char *copy(struct pgqrs_bytes bytes)
{
    char *text = strndup(bytes.len == 0 ? "" : bytes.data, bytes.len);
    assert_non_null(text);
    return text;
}

static enum pgqrs_job_outcome run(struct handler_rig *rig, const char *payload, bool cancelled,
                                  const char *file)
{
    size_t len = strlen(payload);
    struct worker_lease *lease = malloc(sizeof *lease + len + 1);
    assert_non_null(lease);
    *lease = (struct worker_lease){.key = {.id = 17, .attempt = 2}, .payload_len = len};
    memcpy(lease->payload, payload, len + 1);
    forget_result(rig);
    pthread_t thread;
    struct canceller canceller = {.host = rig->host, .file = file};
    struct pgqrs_job *job = pgqrs_host_begin(rig->host, lease);
    if (cancelled && file == NULL) {
        pgqrs_host_cancel(rig->host, 0);
    } else if (cancelled) {
        assert_int_equal(pthread_create(&thread, NULL, cancel_later, &canceller), 0);
    }
    int64_t began = pgqrs_mono_ms();
    enum pgqrs_outcome outcome = rig->plugin.handler.run(rig->plugin.state, job);
    rig->took_ms = pgqrs_mono_ms() - began;
    pgqrs_host_end(rig->host, outcome, &rig->result);
    if (cancelled && file != NULL) {
        (void)pthread_join(thread, NULL);
    }
    rig->error = copy(rig->result.error);
    rig->output = copy(rig->result.result);
    free(lease);
    return rig->result.outcome;
}

enum pgqrs_job_outcome handler_run(struct handler_rig *rig, const char *payload)
{
    return run(rig, payload, false, NULL);
}

enum pgqrs_job_outcome handler_run_cancelled(struct handler_rig *rig, const char *payload,
                                             const char *file)
{
    return run(rig, payload, true, file);
}
