/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/spawn_contract.h"

#define ENTRY "pgqrs_handler_entry"

/* The end of struct pgqrs_handler in the first release. */
#define FIRST_SIZE ((uint32_t)(offsetof(struct pgqrs_handler, fini) + sizeof(void (*)(void *))))

typedef const struct pgqrs_handler *(*entry_fn)(void);

static int check(const char *path, const struct pgqrs_handler *found, struct pgqrs_error *err)
{
    if (found == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "plugin %s: " ENTRY ": found a null result, expected a handler",
                               path);
    }
    if (found->abi != PGQRS_HANDLER_ABI) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "plugin %s: abi: found %u, expected %u",
                               path, found->abi, PGQRS_HANDLER_ABI);
    }
    if (found->size < FIRST_SIZE) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "plugin %s: size: found %u, expected %u or more", path, found->size,
                               FIRST_SIZE);
    }
    if (found->run == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "plugin %s: run: found null, expected a function", path);
    }
    return 0;
}

/* Null: *err is filled. */
static entry_fn find_entry(const char *path, struct pgqrs_error *err)
{
    /* dlopen would search the library path for a name without a slash. */
    char resolved[PATH_MAX];
    const char *name = realpath(path, resolved);
    if (name == NULL && strcmp(path, PGQRS_FD_PLUGIN_PATH) == 0) {
        name = path; /* the file has lost its name */
    }
    if (name == NULL || access(name, R_OK) < 0) {
        (void)pgqrs_error_sys(err, PGQRS_ERR_INVALID, errno,
                              "plugin %s: expected a shared object that can be read, found", path);
        return NULL;
    }
    void *object = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL) {
        (void)pgqrs_error_set(err, PGQRS_ERR_INVALID,
                              "plugin %s: expected a shared object that can be loaded, found: %s",
                              path, dlerror());
        return NULL;
    }
    void *symbol = dlsym(object, ENTRY);
    if (symbol == NULL) {
        (void)pgqrs_error_set(err, PGQRS_ERR_INVALID,
                              "plugin %s: found no symbol " ENTRY
                              ", expected one; declare it with PGQRS_EXPORT",
                              path);
        return NULL;
    }
    entry_fn entry;
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from object to function */
    return entry;
}

int pgqrs_plugin_load(const char *path, struct pgqrs_plugin *plugin_out, struct pgqrs_error *err)
{
    entry_fn entry = find_entry(path, err);
    if (entry == NULL) {
        return -1;
    }
    const struct pgqrs_handler *found = entry();
    if (check(path, found, err) < 0) {
        return -1;
    }
    *plugin_out = (struct pgqrs_plugin){0};
    uint32_t known = (uint32_t)sizeof plugin_out->handler;
    memcpy(&plugin_out->handler, found, found->size < known ? found->size : known);
    return 0;
}

int pgqrs_plugin_init(struct pgqrs_plugin *plugin, const char *queue, const char *settings,
                      const struct pgqrs_host *host, struct pgqrs_error *err)
{
    char text[sizeof err->text] = "";
    struct pgqrs_setup setup = {
        .size = sizeof setup,
        .queue = queue,
        .settings = settings,
        .host = host,
        .error = text,
        .error_size = sizeof text,
    };
    if (plugin->handler.init == NULL || plugin->handler.init(&setup, &plugin->state) == 0) {
        return 0;
    }
    text[sizeof text - 1] = 0;
    return pgqrs_error_set(err, PGQRS_ERR_FAILED, "handler init failed: %s",
                           text[0] != 0 ? text : "it gave no reason");
}

void pgqrs_plugin_fini(struct pgqrs_plugin *plugin)
{
    if (plugin->handler.fini != NULL) {
        plugin->handler.fini(plugin->state);
    }
}
