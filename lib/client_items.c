/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <stdlib.h>
#include <string.h>

#include "store/store_priv.h"

/* ---- rules ---- */

static int set_limit(const char *name, int64_t value, int64_t max, uint32_t *limit,
                     struct pgqrs_failure *failure)
{
    if (value < -1 || value > max) {
        return pgqrs_client_refuse(failure, PGQRS_E_CONFIG,
                                   "rules: %s: found %lld, expected -1, 0 or up to %lld", name,
                                   (long long)value, (long long)max);
    }
    if (value != 0) {
        *limit = value < 0 ? PGQRS_RULE_OFF : (uint32_t)value;
    }
    return 0;
}

static size_t key_count(const char *const *keys, size_t *bytes)
{
    size_t count = 0;
    for (; keys != NULL && keys[count] != NULL; count++) {
        *bytes += strlen(keys[count]) + 1;
    }
    return count;
}

static char *copy_keys(char **to, char *text, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = text;
        text = stpcpy(text, keys[i]) + 1;
    }
    to[count] = NULL;
    return text;
}

static int own_keys(struct client_rules *r, struct pgqrs_failure *failure)
{
    size_t bytes = 0;
    size_t forbidden = key_count(r->rules.forbidden_keys, &bytes);
    size_t required = key_count(r->rules.required_keys, &bytes);
    r->keys = malloc((forbidden + required + 2) * sizeof *r->keys + bytes);
    if (r->keys == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    char **second = r->keys + forbidden + 1;
    char *text = (char *)(second + required + 1);
    text = copy_keys(r->keys, text, r->rules.forbidden_keys, forbidden);
    (void)copy_keys(second, text, r->rules.required_keys, required);
    r->rules.forbidden_keys = (const char *const *)r->keys;
    r->rules.required_keys = (const char *const *)second;
    return 0;
}

int pgqrs_client_rules_init(struct client_rules *rules_out, const struct pgqrs_rules *from,
                            bool copy, struct pgqrs_failure *failure)
{
    struct client_rules r = {.rules = pgqrs_payload_rules_default()};
    if (from != NULL) {
        if (set_limit("max_payload_size_bytes", from->max_payload_size_bytes, PGQRS_ENQUEUE_MAX,
                      &r.rules.max_payload_size_bytes, failure) < 0 ||
            set_limit("max_string_length", from->max_string_length, PGQRS_ENQUEUE_MAX,
                      &r.rules.max_string_length, failure) < 0 ||
            set_limit("max_object_depth", from->max_object_depth, INT16_MAX,
                      &r.rules.max_object_depth, failure) < 0 ||
            PGQRS_CLIENT_RESERVED("rules", from, failure) < 0) {
            return -1;
        }
        if (from->forbidden_keys != NULL) {
            r.rules.forbidden_keys = from->forbidden_keys;
        }
        r.rules.required_keys = from->required_keys;
    }
    if (copy && own_keys(&r, failure) < 0) {
        return -1;
    }
    *rules_out = r;
    return 0;
}

void pgqrs_client_rules_fini(struct client_rules *rules)
{
    free(rules->keys);
    *rules = (struct client_rules){0};
}

/* ---- items ---- */

static int check_item(const struct pgqrs_item *item, size_t index, struct pgqrs_failure *failure)
{
    if (PGQRS_CLIENT_RESERVED("item", item, failure) < 0 ||
        pgqrs_client_reserved("item", &item->reserved_0, sizeof item->reserved_0, failure) < 0) {
        if (failure != NULL) {
            failure->item = (int64_t)index;
        }
        return -1;
    }
    return 0;
}

/* The payload is the next one in out->text, which may move: until the end, data is the place. */
static int add_item(struct client_items *out, const struct client_rules *rules,
                    const struct pgqrs_item *item, struct pgqrs_buf *scratch,
                    struct pgqrs_error *err)
{
    const struct pgqrs_bytes text = {.data = item->payload,
                                     .len = item->payload == NULL ? 0 : item->payload_len};
    if (pgqrs_payload_check(&rules->rules, text, scratch, err) < 0) {
        return -1;
    }
    struct pgqrs_enqueue *to = &out->items[out->count];
    *to = (struct pgqrs_enqueue){
        .payload = {.data = (const char *)scratch->data, .len = scratch->len},
        .delay_ms = item->delay_ms,
        .at_us = item->at_us,
        .priority = item->priority,
        .unique_key = item->unique_key,
        .producer_worker_id = item->producer_id};
    if (pgqrs_store_check_item(to, out->count, err) < 0) {
        return -1;
    }
    to->payload.data = (const char *)out->text.len;
    pgqrs_buf_put(&out->text, scratch->data, scratch->len);
    if (out->text.failed) {
        return pgqrs_error_memory(err);
    }
    out->count++;
    return 0;
}

static int add_items(struct client_items *out, const struct client_rules *rules,
                     const struct pgqrs_item *items, size_t count, struct pgqrs_failure *failure)
{
    struct pgqrs_buf scratch = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct pgqrs_error err;
        rc = check_item(&items[i], i, failure);
        if (rc == 0 && add_item(out, rules, &items[i], &scratch, &err) < 0) {
            if (count > 1 && strncmp(err.text, "payload:", strlen("payload:")) == 0) {
                (void)pgqrs_error_prefix(&err, "item %zu", i + 1);
            }
            rc = pgqrs_client_fail_item(failure, &err, i);
        }
    }
    pgqrs_buf_fini(&scratch);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char **data = &out->items[i].payload.data;
        *data = (const char *)out->text.data + (size_t)*data;
    }
    return rc;
}

int pgqrs_client_items_init(struct client_items *out, const struct client_rules *rules,
                            const struct pgqrs_item *items, size_t count,
                            struct pgqrs_failure *failure)
{
    *out = (struct client_items){0};
    if (count > PGQRS_CLIENT_ITEMS_MAX || (count > 0 && items == NULL)) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "batch: found %s%zu items, expected up to %d",
                                   items == NULL ? "null for " : "", count, PGQRS_CLIENT_ITEMS_MAX);
    }
    out->items = calloc(count + 1, sizeof *out->items);
    out->ids = calloc(count + 1, sizeof *out->ids);
    out->existed = calloc(count + 1, sizeof *out->existed);
    if (out->items == NULL || out->ids == NULL || out->existed == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    return add_items(out, rules, items, count, failure);
}

void pgqrs_client_items_fini(struct client_items *items)
{
    free(items->items);
    free(items->ids);
    free(items->existed);
    pgqrs_buf_fini(&items->text);
    *items = (struct client_items){0};
}

int64_t pgqrs_client_receipts(const struct client_items *items, struct pgqrs_receipt *receipts_out)
{
    int64_t added = 0;
    for (size_t i = 0; i < items->count; i++) {
        added += !items->existed[i];
        if (receipts_out != NULL) {
            receipts_out[i] =
                (struct pgqrs_receipt){.id = items->ids[i], .existed = items->existed[i]};
        }
    }
    return added;
}
