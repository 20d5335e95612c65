/* SPDX-License-Identifier: Apache-2.0 */
/* A store served over a socket: the common cases, and peers that do not keep to the protocol. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/remote_rig.h"
#include "tests/support/sqlite_rig.h"

/* ---- the common cases ---- */

static struct pgqrs_store *open_path(const char *dsn)
{
    struct pgqrs_error err;
    struct pgqrs_store *store = NULL;
    const struct pgqrs_store_options options = {.create = true, .busy_ms = 1000};
    if (pgqrs_store_open(dsn, &options, &store, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return store;
}

static struct pgqrs_store *open_memory(void *arg)
{
    (void)arg;
    return open_path("sqlite::memory:");
}

static struct pgqrs_store *open_new_file(void *arg)
{
    void *rig = NULL;
    assert_int_equal(sqlite_rig_setup(&rig), 0);
    *(struct sqlite_rig **)arg = rig;
    char dsn[PATH_MAX + 32];
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", ((struct sqlite_rig *)rig)->path);
    return open_path(dsn);
}

static void close_memory(void *arg, struct pgqrs_store *store)
{
    (void)arg;
    pgqrs_store_close(&store);
}

static void close_file(void *arg, struct pgqrs_store *store)
{
    pgqrs_store_close(&store);
    assert_int_equal(sqlite_rig_teardown(arg), 0);
}

int main(void)
{
    struct sqlite_rig *rig = NULL;
    const struct suite_backend memory = {
        .name = "memory", .open = open_memory, .close = close_memory};
    const struct suite_backend file = {
        .name = "file", .open = open_new_file, .close = close_file, .arg = (void *)&rig};
    struct remote_backend served_memory = {.inner = &memory};
    struct remote_backend served_file = {.inner = &file};
    const struct suite_backend remote_memory = remote_rig_backend("remote_memory", &served_memory);
    const struct suite_backend remote_file = remote_rig_backend("remote_file", &served_file);
    return pgqrs_store_suite_run(&remote_memory) + pgqrs_store_suite_run(&remote_file);
}
