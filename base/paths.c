/* SPDX-License-Identifier: Apache-2.0 */
#include "base/paths.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Cuts the last component off; "/" becomes empty. */
static int parent(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return -1;
    }
    *slash = 0;
    return 0;
}

int pgqrs_path_installed(const char *relative, char *out, size_t size, struct pgqrs_error *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "/proc/self/exe");
    }
    self[n] = 0;
    /* From bin/x or libexec/pgqrs/x to the directory above bin or libexec. */
    int levels = strstr(self, "/libexec/pgqrs/") != NULL ? 3 : 2;
    for (int i = 0; i < levels; i++) {
        if (parent(self) < 0) {
            return pgqrs_error_set(err, PGQRS_ERR_FAILED,
                                   "this program is not below a bin directory");
        }
    }
    if (snprintf(out, size, "%s/%s", self, relative) >= (int)size) {
        return pgqrs_error_set(err, PGQRS_ERR_FAILED, "path too long: %s/%s", self, relative);
    }
    return 0;
}

int pgqrs_path_runtime(const char *configured, char *out, size_t size, struct pgqrs_error *err)
{
    const char *systemd = getenv("RUNTIME_DIRECTORY");
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    int n;
    if (configured != NULL) {
        n = snprintf(out, size, "%s", configured);
    } else if (systemd != NULL && systemd[0] == '/') {
        /* systemd may name several, separated by colons: the first is ours. */
        n = snprintf(out, size, "%.*s", (int)strcspn(systemd, ":"), systemd);
    } else if (xdg != NULL && xdg[0] == '/') {
        n = snprintf(out, size, "%s/pgqrs", xdg);
    } else {
        n = snprintf(out, size, "/tmp/pgqrs-%u", (unsigned)geteuid());
    }
    if (n >= (int)size) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "runtime directory: found a path of %d bytes, expected at most %zu",
                               n, size - 1);
    }
    return 0;
}
