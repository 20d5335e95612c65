/* SPDX-License-Identifier: Apache-2.0 */
#include "store/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "store/store_priv.h"

static const char *const catch_up_names[PGQRS_CATCH_UP_COUNT] = {
    [PGQRS_CATCH_UP_SKIP] = "skip",
    [PGQRS_CATCH_UP_ONCE] = "once",
    [PGQRS_CATCH_UP_ALL] = "all",
};
static const char *const overlap_names[PGQRS_OVERLAP_COUNT] = {
    [PGQRS_OVERLAP_ALLOW] = "allow",
    [PGQRS_OVERLAP_SKIP] = "skip",
};

const char *pgqrs_catch_up_name(enum pgqrs_catch_up catch_up)
{
    return catch_up_names[catch_up < PGQRS_CATCH_UP_COUNT ? catch_up : PGQRS_CATCH_UP_SKIP];
}

const char *pgqrs_overlap_name(enum pgqrs_overlap overlap)
{
    return overlap_names[overlap < PGQRS_OVERLAP_COUNT ? overlap : PGQRS_OVERLAP_ALLOW];
}

static unsigned index_of(const char *const *names, unsigned count, struct pgqrs_bytes name)
{
    for (unsigned i = 0; i < count; i++) {
        if (strlen(names[i]) == name.len && memcmp(names[i], name.data, name.len) == 0) {
            return i;
        }
    }
    return 0;
}

enum pgqrs_catch_up pgqrs_catch_up_from(struct pgqrs_bytes name)
{
    return (enum pgqrs_catch_up)index_of(catch_up_names, PGQRS_CATCH_UP_COUNT, name);
}

enum pgqrs_overlap pgqrs_overlap_from(struct pgqrs_bytes name)
{
    return (enum pgqrs_overlap)index_of(overlap_names, PGQRS_OVERLAP_COUNT, name);
}

int pgqrs_schedule_is_configured(const struct pgqrs_schedule *schedule, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_CONFLICT,
                           "schedule \"%s\" is in the configuration of pgqrsd \"%s\", which would "
                           "make it again; expected it to be deleted there",
                           schedule->name, schedule->config);
}

void pgqrs_schedule_list_fini(struct pgqrs_schedule_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct pgqrs_schedule *s = &list->items[i];
        free(s->name);
        free(s->queue);
        free(s->cron);
        free(s->zone);
        free(s->payload);
        free(s->config);
    }
    free(list->items);
    *list = (struct pgqrs_schedule_list){0};
}

/* ---- checks ---- */

static int ops_of(struct pgqrs_store *store, const struct pgqrs_schedule_ops **ops_out,
                  struct pgqrs_error *err)
{
    *ops_out = store->ops->schedule;
    return *ops_out != NULL ? 0
                            : pgqrs_error_set(err, PGQRS_ERR_INVALID, "store %s keeps no schedules",
                                              pgqrs_store_backend(store));
}

static int check_text(const char *what, const char *text, size_t max, struct pgqrs_error *err)
{
    size_t len = text == NULL ? 0 : strlen(text);
    if (len == 0 || len > max) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "schedule's %s: found %zu bytes, expected 1 to %zu", what, len, max);
    }
    return 0;
}

static int check_put(const struct pgqrs_schedule_put *put, struct pgqrs_error *err)
{
    if (check_text("name", put->name, PGQRS_SCHEDULE_NAME_MAX, err) < 0 ||
        check_text("queue", put->queue, PGQRS_SCHEDULE_NAME_MAX, err) < 0 ||
        check_text("expression", put->cron, PGQRS_SCHEDULE_TEXT_MAX, err) < 0 ||
        check_text("zone", put->zone, PGQRS_SCHEDULE_TEXT_MAX, err) < 0) {
        return -1;
    }
    if (put->catch_up >= PGQRS_CATCH_UP_COUNT || put->overlap >= PGQRS_OVERLAP_COUNT ||
        put->pause >= PGQRS_SCHEDULE_PAUSE_COUNT || put->payload.len == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "schedule \"%s\": found a policy that there is not, or no payload",
                               put->name);
    }
    if (put->payload.len > PGQRS_SCHEDULE_PAYLOAD_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "schedule \"%s\": payload: found %zu bytes, expected at most %d",
                               put->name, put->payload.len, PGQRS_SCHEDULE_PAYLOAD_MAX);
    }
    return 0;
}

/* ---- calls ---- */

int pgqrs_store_schedule_create(struct pgqrs_store *store, const struct pgqrs_schedule_put *put,
                                int64_t *id_out, struct pgqrs_error *err)
{
    const struct pgqrs_schedule_ops *ops;
    return ops_of(store, &ops, err) < 0 || check_put(put, err) < 0
               ? -1
               : ops->create(store, put, id_out, err);
}

int64_t pgqrs_store_schedule_configure(struct pgqrs_store *store, const char *config,
                                       const struct pgqrs_schedule_put *puts, size_t count,
                                       struct pgqrs_error *err)
{
    const struct pgqrs_schedule_ops *ops;
    if (ops_of(store, &ops, err) < 0 ||
        check_text("configuration", config, PGQRS_SCHEDULE_NAME_MAX, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (check_put(&puts[i], err) < 0) {
            return -1;
        }
    }
    return ops->configure(store, config, puts, count, err);
}

int pgqrs_store_schedule_list(struct pgqrs_store *store, const char *after, uint32_t limit,
                              struct pgqrs_schedule_list *list_out, struct pgqrs_error *err)
{
    const struct pgqrs_schedule_ops *ops;
    *list_out = (struct pgqrs_schedule_list){0};
    return ops_of(store, &ops, err) < 0 ||
                   pgqrs_store_check_limit(limit, PGQRS_SCHEDULE_LIST_MAX, err) < 0
               ? -1
               : ops->list(store, after == NULL ? "" : after, limit, list_out, err);
}

int pgqrs_store_schedule_find(struct pgqrs_store *store, const char *name,
                              struct pgqrs_schedule_list *one_out, struct pgqrs_error *err)
{
    const struct pgqrs_schedule_ops *ops;
    *one_out = (struct pgqrs_schedule_list){0};
    return ops_of(store, &ops, err) < 0 ||
                   check_text("name", name, PGQRS_SCHEDULE_NAME_MAX, err) < 0
               ? -1
               : ops->find(store, name, one_out, err);
}

int pgqrs_store_schedule_pause(struct pgqrs_store *store, const char *name, bool paused,
                               struct pgqrs_error *err)
{
    const struct pgqrs_schedule_ops *ops;
    return ops_of(store, &ops, err) < 0 ||
                   check_text("name", name, PGQRS_SCHEDULE_NAME_MAX, err) < 0
               ? -1
               : ops->pause(store, name, paused, err);
}

int pgqrs_store_schedule_delete(struct pgqrs_store *store, const char *name,
                                struct pgqrs_error *err)
{
    const struct pgqrs_schedule_ops *ops;
    return ops_of(store, &ops, err) < 0 ||
                   check_text("name", name, PGQRS_SCHEDULE_NAME_MAX, err) < 0
               ? -1
               : ops->remove(store, name, err);
}

int pgqrs_store_schedule_due(struct pgqrs_store *store, int64_t now_us, uint32_t limit,
                             struct pgqrs_schedule_list *list_out, int64_t *next_us_out,
                             struct pgqrs_error *err)
{
    const struct pgqrs_schedule_ops *ops;
    *list_out = (struct pgqrs_schedule_list){0};
    *next_us_out = 0;
    return ops_of(store, &ops, err) < 0 ||
                   pgqrs_store_check_limit(limit, PGQRS_SCHEDULE_LIST_MAX, err) < 0
               ? -1
               : ops->due(store, now_us, limit, list_out, next_us_out, err);
}

int pgqrs_store_schedule_fire(struct pgqrs_store *store, struct pgqrs_fire *fire,
                              struct pgqrs_error *err)
{
    const struct pgqrs_schedule_ops *ops;
    fire->fired_out = false;
    fire->message_count_out = 0;
    if (ops_of(store, &ops, err) < 0) {
        return -1;
    }
    if (fire->next_us <= 0 || fire->tick_count > PGQRS_TICKS_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "schedule %lld: fire %zu ticks",
                               (long long)fire->schedule_id, fire->tick_count);
    }
    return ops->fire(store, fire, err);
}
