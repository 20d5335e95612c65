/* SPDX-License-Identifier: Apache-2.0 */
#include "config/locate.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/paths.h"
#include "ipc/msg.h"

int pgqrs_locate_dir_of(const char *file, char **dir_out, struct pgqrs_error *err)
{
    char *copy = strdup(file);
    if (copy == NULL) {
        return pgqrs_error_memory(err);
    }
    char *dir = realpath(dirname(copy), NULL);
    int found = errno;
    free(copy);
    if (dir == NULL) {
        return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, found, "directory of %s", file);
    }
    *dir_out = dir;
    return 0;
}

/* Null when it does not exist, with err filled. */
static char *absolute(const char *dir, struct pgqrs_error *err)
{
    char *full = realpath(dir, NULL);
    if (full == NULL) {
        (void)pgqrs_error_sys(err, PGQRS_ERR_CONFIG, errno, "directory \"%s\"", dir);
    }
    return full;
}

static int too_long(const char *text, size_t max, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                           "found \"%.60s\" which becomes longer than %zu bytes, expected less",
                           text, max);
}

int pgqrs_locate_path(const char *text, const char *dir, char **path_out, struct pgqrs_error *err)
{
    char *base = NULL;
    char *path = NULL;
    if (*text == 0) {
        (void)pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found an empty text, expected a path");
        return -1;
    }
    if (*text != '/' && (base = absolute(dir, err)) == NULL) {
        return -1;
    }
    int n = asprintf(&path, "%s%s%s", base ? base : "", base ? "/" : "", text);
    free(base);
    if (n < 0) {
        (void)pgqrs_error_memory(err);
        return -1;
    }
    if (n > PGQRS_PATH_TEXT_MAX) {
        free(path);
        (void)too_long(text, PGQRS_PATH_TEXT_MAX, err);
        return -1;
    }
    *path_out = path;
    return 0;
}

/* ---- the store ---- */

/* Percent signs and question marks mean something in a DSN. */
static char *escape(const char *path)
{
    char *out = malloc(3 * strlen(path) + 1);
    char *to = out;
    for (; out != NULL && *path != 0; path++) {
        if (*path == '%' || *path == '?') {
            (void)snprintf(to, 4, "%%%02X", (unsigned char)*path);
            to += 3;
        } else {
            *to++ = *path;
        }
    }
    if (out != NULL) {
        *to = 0;
    }
    return out;
}

static int locate_sqlite(const char *path, const char *dir, char **dsn_out, struct pgqrs_error *err)
{
    char *escaped = NULL;
    char *dsn = NULL;
    if (*path == 0 || *path == '?') {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found no path, expected sqlite:PATH");
    }
    if (strncmp(path, ":memory:", 8) == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "found a database in memory, expected a file: memory belongs to "
                               "one process");
    }
    if (*path != '/') {
        char *base = absolute(dir, err);
        if (base == NULL) {
            return -1;
        }
        escaped = escape(base);
        free(base);
        if (escaped == NULL) {
            return pgqrs_error_memory(err);
        }
    }
    int n = asprintf(&dsn, "sqlite:%s%s%s", escaped ? escaped : "", escaped ? "/" : "", path);
    free(escaped);
    if (n < 0) {
        return pgqrs_error_memory(err);
    }
    if (n > PGQRS_DSN_MAX) {
        free(dsn);
        return too_long(path, PGQRS_DSN_MAX, err);
    }
    *dsn_out = dsn;
    return 0;
}

static int locate_broker(const char *path, const char *dir, char **dsn_out, struct pgqrs_error *err)
{
    char *socket = NULL;
    if (*path == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found no path, expected broker:SOCKET");
    }
    if (pgqrs_locate_path(path, dir, &socket, err) < 0) {
        return -1;
    }
    int n = asprintf(dsn_out, "broker:%s", socket);
    free(socket);
    return n < 0 ? pgqrs_error_memory(err) : 0;
}

/* libpq reads it: it is the one who knows what may be in it. */
static int locate_postgres(const char *text, char **dsn_out, struct pgqrs_error *err)
{
    if (strlen(text) > PGQRS_DSN_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found %zu bytes, expected at most %d",
                               strlen(text), PGQRS_DSN_MAX);
    }
    *dsn_out = strdup(text);
    return *dsn_out == NULL ? pgqrs_error_memory(err) : 0;
}

int pgqrs_locate_dsn(const char *text, const char *dir, char **dsn_out, struct pgqrs_error *err)
{
    static const char *const later[] = {"turso:", "s3:"};
    const char *colon = strchr(text, ':');
    if (strncmp(text, "sqlite:", 7) == 0) {
        const char *path = text + (strncmp(text, "sqlite://", 9) == 0 ? 9 : 7);
        return locate_sqlite(path, dir, dsn_out, err);
    }
    if (strncmp(text, "broker:", 7) == 0) {
        return locate_broker(text + 7, dir, dsn_out, err);
    }
    if (strncmp(text, "postgres://", 11) == 0 || strncmp(text, "postgresql://", 13) == 0) {
        return locate_postgres(text, dsn_out, err);
    }
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        if (strncmp(text, later[i], strlen(later[i])) == 0) {
            return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                                   "found scheme \"%s\", which this build does not support yet, "
                                   "expected " PGQRS_EXPECTED_DSN,
                                   later[i]);
        }
    }
    if (colon == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "found no scheme, expected " PGQRS_EXPECTED_DSN
                               ", such as sqlite:/var/lib/pgqrs/queue.db");
    }
    /* What follows the scheme may hold a password. */
    int len = colon - text > 20 ? 20 : (int)(colon - text);
    return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                           "found unknown scheme \"%.*s:\", expected " PGQRS_EXPECTED_DSN, len,
                           text);
}

/* ---- plugins ---- */

static bool is_bare_name(const char *text)
{
    size_t len = strlen(text);
    return strchr(text, '/') == NULL && (len < 3 || strcmp(text + len - 3, ".so") != 0);
}

static int check_readable(const char *path, bool installed, struct pgqrs_error *err)
{
    const char *expected = installed
                               ? "the name of a handler that is installed with pgqrsd, or a path"
                               : "the path of a plugin";
    struct stat st;
    if (stat(path, &st) < 0 || access(path, R_OK) < 0) {
        int code = errno;
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found \"%.250s\" (%s), expected %s", path,
                               strerror(code), expected);
    }
    if (!S_ISREG(st.st_mode)) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found \"%.250s\", %s, expected %s", path,
                               S_ISDIR(st.st_mode) ? "a directory" : "not a file", expected);
    }
    return 0;
}

int pgqrs_locate_handler(const char *text, const char *dir, char **path_out,
                         struct pgqrs_error *err)
{
    char relative[PATH_MAX];
    char full[PATH_MAX] = "";
    char *path = NULL;
    bool bare = *text != 0 && is_bare_name(text);
    if (bare) {
        (void)snprintf(relative, sizeof relative, "lib/pgqrs/handlers/%.255s.so", text);
        if (pgqrs_path_installed(relative, full, sizeof full, err) < 0) {
            return -1;
        }
    }
    if (pgqrs_locate_path(bare ? full : text, dir, &path, err) < 0) {
        return -1;
    }
    if (check_readable(path, bare, err) < 0) {
        free(path);
        return -1;
    }
    *path_out = path;
    return 0;
}
