/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define BUSY_MS 5000
#define CALL_MS 30000

/* ---- failures ---- */

_Static_assert((int)PGQRS_E_MEMORY == (int)PGQRS_ERR_MEMORY && PGQRS_ERR_COUNT == 13,
               "the library's codes begin with those of the store");

const char *pgqrs_code_name(enum pgqrs_code code)
{
    static const char *const names[] = {
        [PGQRS_OK] = "ok",
        [PGQRS_E_FAILED] = "failed",
        [PGQRS_E_AGAIN] = "again",
        [PGQRS_E_UNKNOWN] = "unknown",
        [PGQRS_E_INVALID] = "invalid",
        [PGQRS_E_NOT_FOUND] = "not found",
        [PGQRS_E_EXISTS] = "exists",
        [PGQRS_E_CONFLICT] = "conflict",
        [PGQRS_E_CONFIG] = "config",
        [PGQRS_E_UNAVAILABLE] = "unavailable",
        [PGQRS_E_SCHEMA] = "schema",
        [PGQRS_E_PROTOCOL] = "protocol",
        [PGQRS_E_MEMORY] = "memory",
        [PGQRS_E_LOST] = "lost",
        [PGQRS_E_SUSPENDED] = "suspended",
        [PGQRS_E_STOPPED] = "stopped",
        [PGQRS_E_RATE_LIMITED] = "rate limited",
    };
    return (unsigned)code < sizeof names / sizeof *names ? names[code] : "?";
}

const char *pgqrs_version(void)
{
    return PGQRS_VERSION;
}

int pgqrs_client_fail(struct pgqrs_failure *failure, const struct pgqrs_error *err)
{
    if (failure != NULL) {
        *failure = (struct pgqrs_failure){
            .code = (enum pgqrs_code)(int)err->code, .sys_errno = err->sys_errno, .item = -1};
        (void)snprintf(failure->text, sizeof failure->text, "%s", err->text);
    }
    return -1;
}

int pgqrs_client_fail_item(struct pgqrs_failure *failure, const struct pgqrs_error *err,
                           size_t item)
{
    (void)pgqrs_client_fail(failure, err);
    if (failure != NULL) {
        failure->item = (int64_t)item;
    }
    return -1;
}

int pgqrs_client_refuse(struct pgqrs_failure *failure, enum pgqrs_code code, const char *fmt, ...)
{
    if (failure != NULL) {
        char text[sizeof failure->text];
        va_list args;
        va_start(args, fmt);
        (void)vsnprintf(text, sizeof text, fmt, args);
        va_end(args);
        *failure = (struct pgqrs_failure){.code = code, .item = -1};
        (void)snprintf(failure->text, sizeof failure->text, "%s", text);
    }
    return -1;
}

int pgqrs_client_need(const struct pgqrs_client *client, struct pgqrs_failure *failure)
{
    if (client == NULL || client->store == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "client: found %s, expected a connected one",
                                   client == NULL ? "none" : "one that was disconnected");
    }
    return 0;
}

int pgqrs_client_reserved(const char *what, const void *fields, size_t size,
                          struct pgqrs_failure *failure)
{
    const unsigned char *bytes = fields;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                       "%s: found something in the reserved fields, expected "
                                       "zeros: begin with a struct of zeros",
                                       what);
        }
    }
    return 0;
}

/* ---- connecting ---- */

static int check_options(const struct pgqrs_options *o, struct pgqrs_failure *failure)
{
    if (o->busy_ms < 0 || o->call_ms < 0 || o->rate_wait_ms < -1) {
        return pgqrs_client_refuse(
            failure, PGQRS_E_CONFIG,
            "options: found busy_ms %lld, call_ms %lld, rate_wait_ms %lld, expected 0 or more",
            (long long)o->busy_ms, (long long)o->call_ms, (long long)o->rate_wait_ms);
    }
    return PGQRS_CLIENT_RESERVED("options", o, failure);
}

static struct pgqrs_store_options store_options(const struct pgqrs_options *o)
{
    return (struct pgqrs_store_options){.create = o->create,
                                        .synchronous_full = !o->synchronous_normal,
                                        .busy_ms = o->busy_ms == 0 ? BUSY_MS : o->busy_ms,
                                        .schema = o->schema,
                                        .call_ms = o->call_ms == 0 ? CALL_MS : o->call_ms,
                                        .wake = o->listen,
                                        .wake_dsn = o->wake_dsn};
}

int pgqrs_connect(const char *dsn, const struct pgqrs_options *options,
                  struct pgqrs_client **client_out, struct pgqrs_failure *failure)
{
    static const struct pgqrs_options defaults;
    const struct pgqrs_options *o = options == NULL ? &defaults : options;
    if (dsn == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_CONFIG, "DSN: found none");
    }
    if (check_options(o, failure) < 0) {
        return -1;
    }
    struct pgqrs_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    client->refs = 1;
    client->rate_wait_ms = o->rate_wait_ms;
    pgqrs_rate_limit_init(&client->rate, o->rate_per_second, o->rate_burst, pgqrs_mono_us());
    if (pgqrs_client_rules_init(&client->rules, o->rules, true, failure) < 0) {
        free(client);
        return -1;
    }
    const struct pgqrs_store_options how = store_options(o);
    struct pgqrs_error err;
    if (pgqrs_store_open(dsn, &how, &client->store, &err) < 0) {
        pgqrs_client_unref(client);
        return pgqrs_client_fail(failure, &err);
    }
    *client_out = client;
    return 0;
}

void pgqrs_client_unref(struct pgqrs_client *client)
{
    if (--client->refs > 0) {
        return;
    }
    for (size_t i = 0; i < PGQRS_CLIENT_QUEUES; i++) {
        free(client->queues[i].name);
    }
    pgqrs_client_rules_fini(&client->rules);
    free(client);
}

void pgqrs_disconnect(struct pgqrs_client **client)
{
    if (client == NULL || *client == NULL) {
        return;
    }
    pgqrs_store_close(&(*client)->store);
    pgqrs_client_unref(*client);
    *client = NULL;
}

int pgqrs_install(struct pgqrs_client *client, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    return pgqrs_store_install(client->store, &err) < 0 ? pgqrs_client_fail(failure, &err) : 0;
}

int pgqrs_verify(struct pgqrs_client *client, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    return pgqrs_store_verify(client->store, &err) < 0 ? pgqrs_client_fail(failure, &err) : 0;
}

void pgqrs_rate_status(const struct pgqrs_client *client, struct pgqrs_rate *rate_out)
{
    const struct pgqrs_rate_status now = pgqrs_rate_limit_status(&client->rate, pgqrs_mono_us());
    *rate_out = (struct pgqrs_rate){.available = now.available,
                                    .per_second = now.per_second,
                                    .burst = now.burst,
                                    .utilisation = now.utilisation};
}
