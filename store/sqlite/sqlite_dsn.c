/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int hex(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* Turns %20 and the like into what they stand for, as the clients of pgqrs do. */
static bool decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from != 0; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        if (!isxdigit((unsigned char)from[1]) || !isxdigit((unsigned char)from[2])) {
            return false;
        }
        int c = hex(from[1]) * 16 + hex(from[2]);
        if (c == 0) {
            return false;
        }
        *to++ = (char)c;
        from += 2;
    }
    *to = 0;
    return true;
}

int pgqrs_sqlite_parse_dsn(const char *dsn, char **path_out, bool *create, struct pgqrs_error *err)
{
    const char *query = strchrnul(dsn, '?');
    if (*query != 0 && strcmp(query, "?mode=rwc") != 0 && strcmp(query, "?mode=rw") != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "SQLite DSN: found option \"%.60s\", expected mode=rw or mode=rwc",
                               query + 1);
    }
    if (*query != 0) {
        *create = strcmp(query, "?mode=rwc") == 0;
    }
    if (query == dsn) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "SQLite DSN: found no path, expected sqlite:PATH or "
                               "sqlite::memory:");
    }
    char *path = strndup(dsn, (size_t)(query - dsn));
    if (path == NULL) {
        return pgqrs_error_memory(err);
    }
    if (strcmp(path, ":memory:") == 0) {
        free(path);
        *path_out = NULL;
        return 0;
    }
    if (!decode(path)) {
        free(path);
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "SQLite DSN: found a %% that is not followed by two hexadecimal "
                               "digits, expected %%25 for the sign itself");
    }
    *path_out = path;
    return 0;
}
