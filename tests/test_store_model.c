/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/sqlite_rig.h"
#include "tests/support/store_random.h"

#include <stdio.h>

/*
 * The suite on the plainest store there is: what the suite asks for can be had. And that store
 * beside SQLite's, in memory and on a file with three clients.
 */

static struct pgqrs_store *open_model(void *arg)
{
    (void)arg;
    return model_open();
}

static void close_model(void *arg, struct pgqrs_store *store)
{
    (void)arg;
    pgqrs_store_close(&store);
}

static struct pgqrs_store *open_path(const char *path)
{
    const struct pgqrs_store_options options = {.create = true, .busy_ms = 1000};
    struct pgqrs_error err;
    struct pgqrs_store *store = NULL;
    char dsn[PATH_MAX + 32];
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", path);
    if (pgqrs_store_open(dsn, &options, &store, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return store;
}

static struct pgqrs_store *open_memory(void *arg)
{
    (void)arg;
    return open_path(":memory:");
}

static struct pgqrs_store *open_again(void *arg)
{
    return open_path((*(struct sqlite_rig **)arg)->path);
}

static struct pgqrs_store *open_file(void *arg)
{
    void *rig = NULL;
    assert_int_equal(sqlite_rig_setup(&rig), 0);
    *(struct sqlite_rig **)arg = rig;
    return open_again(arg);
}

static void close_file(void *arg, struct pgqrs_store *store)
{
    pgqrs_store_close(&store);
    assert_int_equal(sqlite_rig_teardown(arg), 0);
}

int main(void)
{
    struct sqlite_rig *rig = NULL;
    const struct suite_backend model = {.name = "model", .open = open_model, .close = close_model};
    const struct suite_backend memory = {
        .name = "memory", .open = open_memory, .close = close_model};
    const struct suite_backend file = {.name = "file",
                                       .open = open_file,
                                       .close = close_file,
                                       .open_again = open_again,
                                       .arg = (void *)&rig};
    return pgqrs_store_suite_run(&model) + pgqrs_store_random_run(&memory) +
           pgqrs_store_random_run(&file);
}
