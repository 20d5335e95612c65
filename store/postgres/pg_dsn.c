/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_conn.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 10000
#define SCHEMA_MAX 63

int pgqrs_pg_check_schema(const char *schema, struct pgqrs_error *err)
{
    size_t len = strlen(schema);
    bool good =
        len >= 1 && len <= SCHEMA_MAX && isdigit((unsigned char)*schema) == 0 && *schema != '$';
    for (size_t i = 0; good && i < len; i++) {
        unsigned char c = (unsigned char)schema[i];
        good = c < 0x80 && (isalnum(c) != 0 || c == '_' || c == '$');
    }
    return good ? 0
                : pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                                  "store schema: found \"%.80s\", expected 1 to 63 letters, "
                                  "digits, _ or $, beginning with a letter or _",
                                  schema);
}

/* ---- secrets ---- */

static void wipe(char *text)
{
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

void pgqrs_pg_dsn_fini(struct pg_dsn *dsn)
{
    for (size_t i = 0; i < dsn->count; i++) {
        free(dsn->keys[i]);
        wipe(dsn->values[i]);
    }
    *dsn = (struct pg_dsn){0};
}

static const char *setting(const struct pg_dsn *dsn, const char *key)
{
    for (size_t i = 0; i < dsn->count; i++) {
        if (strcmp(dsn->keys[i], key) == 0) {
            return dsn->values[i];
        }
    }
    return NULL;
}

void pgqrs_pg_dsn_hide(const struct pg_dsn *dsn, char *text)
{
    static const char *const secrets[] = {"password", "sslpassword"};
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        const char *secret = setting(dsn, secrets[i]);
        if (secret == NULL || *secret == 0) {
            continue;
        }
        for (char *at = strstr(text, secret); at != NULL; at = strstr(at, secret)) {
            memset(at, '*', strlen(secret));
        }
    }
}

/* ---- parsing ---- */

static int put(struct pg_dsn *dsn, const char *key, const char *value, struct pgqrs_error *err)
{
    if (dsn->count == PG_SETTINGS_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "store DSN: found over %d settings",
                               PG_SETTINGS_MAX);
    }
    char *k = strdup(key);
    char *v = strdup(value);
    if (k == NULL || v == NULL) {
        free(k);
        wipe(v);
        return pgqrs_error_memory(err);
    }
    dsn->keys[dsn->count] = k;
    dsn->values[dsn->count++] = v;
    return 0;
}

/*
 * A raw "@" or "/" in user or password makes libpq take the rest of it for host, port or database,
 * and these appear in messages. "@" may stand once, before the first slash.
 */
static bool is_ambiguous(const char *text)
{
    const char *at = strstr(text, "://");
    at = at == NULL ? text : at + 3;
    size_t len = strcspn(at, "?");
    const char *first = memchr(at, '@', len);
    const char *slash = memchr(at, '/', len);
    return first != NULL && (memrchr(at, '@', len) != first || (slash != NULL && slash < first));
}

static int refuse(char *why, struct pgqrs_error *err)
{
    /* libpq's text may repeat parts of the DSN; of those only a parameter's name is shown. */
    static const char unknown[] = "invalid URI query parameter: ";
    const char *name = "";
    if (why != NULL && strncmp(why, unknown, sizeof unknown - 1) == 0) {
        name = why + sizeof unknown - 1;
        why[strcspn(why, "\n")] = 0;
    }
    (void)pgqrs_error_set(err, PGQRS_ERR_CONFIG, "store DSN: found %s%.60s, expected %s",
                          *name == 0 ? "a URI that libpq can not read" : "the parameter ", name,
                          *name == 0
                              ? "postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40, %2F, "
                                "... for @, /, ... in user and password"
                              : "one that libpq knows");
    PQfreemem(why);
    return -1;
}

static int copy(struct pg_dsn *dsn, const PQconninfoOption *options, struct pgqrs_error *err)
{
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++) {
        if (o->val != NULL && strcmp(o->keyword, "client_encoding") != 0 &&
            put(dsn, o->keyword, o->val, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int add_defaults(struct pg_dsn *dsn, struct pgqrs_error *err)
{
    static const char *const defaults[][2] = {
        {"keepalives_idle", "30"},
        {"keepalives_interval", "10"},
        {"keepalives_count", "3"},
        {"fallback_application_name", "pgqrsd"},
    };
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        if (setting(dsn, defaults[i][0]) == NULL &&
            put(dsn, defaults[i][0], defaults[i][1], err) < 0) {
            return -1;
        }
    }
    return put(dsn, "client_encoding", "UTF8", err);
}

static void read_timeout(struct pg_dsn *dsn)
{
    const char *text = setting(dsn, "connect_timeout");
    const char *hosts = setting(dsn, "host");
    long seconds = text == NULL ? 0 : strtol(text, NULL, 10);
    dsn->connect_ms = seconds <= 0 || seconds > 3600 ? CONNECT_MS : seconds * 1000;
    if (text != NULL) { /* libpq means each host */
        for (; hosts != NULL && (hosts = strchr(hosts, ',')) != NULL; hosts++) {
            dsn->connect_ms += seconds * 1000;
        }
    }
}

int pgqrs_pg_dsn_parse(struct pg_dsn *dsn, const char *text, struct pgqrs_error *err)
{
    char *why = NULL;
    if (is_ambiguous(text)) {
        return refuse(NULL, err);
    }
    PQconninfoOption *options = PQconninfoParse(text, &why);
    if (options == NULL) {
        return refuse(why, err);
    }
    int rc = copy(dsn, options, err);
    for (PQconninfoOption *o = options; o->keyword != NULL; o++) {
        if (o->val != NULL) {
            explicit_bzero(o->val, strlen(o->val));
        }
    }
    PQconninfoFree(options);
    if (rc < 0 || add_defaults(dsn, err) < 0) {
        pgqrs_pg_dsn_fini(dsn);
        return -1;
    }
    read_timeout(dsn);
    return 0;
}
