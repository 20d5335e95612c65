/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "lib/client_runs.h"
#include "store/run_look.h"

#define LOOK_FIRST_MS 20
#define LOOK_EVERY_MS 500

/* ---- definitions and triggers ---- */

int pgqrs_workflow_create(struct pgqrs_client *client, const char *name, int64_t *id_out,
                          struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    int64_t id = 0;
    bool existed = false;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (name == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID, "workflow: found no name");
    }
    if (pgqrs_store_workflow_create(client->store, name, &id, &existed, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    if (id_out != NULL) {
        *id_out = id;
    }
    return existed ? 0 : 1;
}

/* The rules are about what is stored; the store wraps it by itself. */
static int check_wrapped(const struct pgqrs_client *client, struct pgqrs_bytes input,
                         struct pgqrs_error *err)
{
    struct pgqrs_buf wrapped = {0};
    struct pgqrs_buf compact = {0};
    int rc = pgqrs_workflow_wrap(input, &wrapped, err);
    if (rc == 0) {
        const struct pgqrs_bytes text = {.data = (const char *)wrapped.data, .len = wrapped.len};
        rc = pgqrs_payload_check(&client->rules.rules, text, &compact, err);
    }
    pgqrs_buf_fini(&wrapped);
    pgqrs_buf_fini(&compact);
    return rc;
}

static int trigger(struct pgqrs_client *client, const char *name, struct client_items *item,
                   struct pgqrs_receipt *receipt_out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (check_wrapped(client, item->items[0].payload, &err) < 0) {
        return pgqrs_client_fail_item(failure, &err, 0);
    }
    if (pgqrs_client_take_tokens(client, 1, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_workflow_trigger(client->store, name, item->items, item->ids, item->existed,
                                     &err) < 0) {
        if (err.code != PGQRS_ERR_UNKNOWN) {
            pgqrs_rate_limit_refund(&client->rate, 1, pgqrs_mono_us());
        }
        return pgqrs_client_fail(failure, &err);
    }
    return (int)pgqrs_client_receipts(item, receipt_out);
}

int pgqrs_workflow_trigger(struct pgqrs_client *client, const char *name,
                           const struct pgqrs_item *item, struct pgqrs_receipt *receipt_out,
                           struct pgqrs_failure *failure)
{
    struct client_rules any = {.rules = pgqrs_payload_rules_default()};
    struct client_items prepared;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (name == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID, "workflow: found no name");
    }
    any.rules.max_string_length = any.rules.max_object_depth = PGQRS_RULE_OFF;
    any.rules.forbidden_keys = any.rules.required_keys = NULL;
    int rc = pgqrs_client_items_init(&prepared, &any, item, 1, failure);
    if (rc == 0) {
        rc = trigger(client, name, &prepared, receipt_out, failure);
    }
    pgqrs_client_items_fini(&prepared);
    return rc;
}

/* ---- results ---- */

/* Waits; false when a signal was handled. */
static bool rest(int64_t ms)
{
    return poll(NULL, 0, (int)ms) == 0 || errno != EINTR;
}

static int follow(struct pgqrs_client *client, int64_t id, int64_t end_ms,
                  struct pgqrs_run_list *one, struct pgqrs_error *err)
{
    int64_t pause = LOOK_FIRST_MS;
    for (bool last = false;;) {
        if (pgqrs_store_run_follow(client->store, id, one, err) < 0) {
            return -1;
        }
        int64_t left = end_ms - pgqrs_mono_ms();
        if (pgqrs_run_has_ended(one->items[0].status)) {
            return 1;
        }
        if (last || left <= 0) {
            return 0;
        }
        id = one->items[0].message_id; /* of those before it nothing changes any more */
        pgqrs_run_list_fini(one);
        last = !rest(pause < left ? pause : left);
        pause = pause * 2 < LOOK_EVERY_MS ? pause * 2 : LOOK_EVERY_MS;
    }
}

int pgqrs_workflow_result(struct pgqrs_client *client, int64_t id, int64_t wait_ms,
                          struct pgqrs_run_page **page_out, struct pgqrs_failure *failure)
{
    struct pgqrs_run_list one;
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (wait_ms < -1) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "result: found a wait of %lld ms, expected -1 or more",
                                   (long long)wait_ms);
    }
    int64_t now = pgqrs_mono_ms();
    int64_t end_ms = wait_ms < 0 || wait_ms > INT64_MAX - now ? INT64_MAX : now + wait_ms;
    int ended = follow(client, id, end_ms, &one, &err);
    if (ended < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    return pgqrs_client_run_page(&one, page_out, failure) < 0 ? -1 : ended;
}

/* ---- what is done to runs ---- */

int pgqrs_workflow_cancel(struct pgqrs_client *client, int64_t id, enum pgqrs_run_state *status_out,
                          struct pgqrs_failure *failure)
{
    enum pgqrs_run_status now = PGQRS_RUN_NONE;
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_run_cancel(client->store, id, &now, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    if (status_out != NULL) {
        *status_out = (enum pgqrs_run_state)(int)now;
    }
    return 0;
}

int pgqrs_workflow_resume(struct pgqrs_client *client, int64_t id, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    bool woken = false;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_run_resume(client->store, id, &woken, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    return woken ? 1 : 0;
}

/* Compact and within the rules; text null: fallback. */
static int check_value(const struct pgqrs_client *client, const char *text, const char *fallback,
                       struct pgqrs_buf *out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    const struct pgqrs_bytes bytes = pgqrs_bytes_from(text == NULL ? fallback : text);
    if (bytes.data == NULL) {
        return 0;
    }
    return pgqrs_payload_check(&client->rules.rules, bytes, out, &err) < 0
               ? pgqrs_client_fail(failure, &err)
               : 0;
}

int pgqrs_workflow_signal(struct pgqrs_client *client, int64_t id, const char *event,
                          const char *payload, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    struct pgqrs_buf value = {0};
    bool first = false;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (event == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID, "event: found no name");
    }
    int rc = check_value(client, payload, "null", &value, failure);
    const struct pgqrs_bytes text = {.data = (const char *)value.data, .len = value.len};
    if (rc == 0 && pgqrs_store_event_send(client->store, id, event, text, &first, &err) < 0) {
        rc = pgqrs_client_fail(failure, &err);
    }
    pgqrs_buf_fini(&value);
    return rc < 0 ? -1 : first;
}

int pgqrs_run_fork(struct pgqrs_client *client, int64_t id, const char *from_step,
                   const char *input, int64_t *id_out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    struct pgqrs_buf value = {0};
    int64_t made = 0;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (input != NULL && check_wrapped(client, pgqrs_bytes_from(input), &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    if (input != NULL && pgqrs_payload_normalise(pgqrs_bytes_from(input), &value, &err) < 0) {
        pgqrs_buf_fini(&value);
        return pgqrs_client_fail(failure, &err);
    }
    const struct pgqrs_bytes text = {.data = (const char *)value.data, .len = value.len};
    int rc = pgqrs_store_run_fork(client->store, id, from_step, text, &made, &err);
    pgqrs_buf_fini(&value);
    if (rc < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    if (id_out != NULL) {
        *id_out = made;
    }
    return 0;
}
