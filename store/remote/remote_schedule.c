/* SPDX-License-Identifier: Apache-2.0 */
#include "store/remote/remote_priv.h"

/* err may be null in the store's contract; what fills it in must not be. */
static int call(struct pgqrs_store *store, struct pgqrs_store_call *c,
                struct pgqrs_store_reply *reply, struct pgqrs_error *err)
{
    struct pgqrs_error unread;
    return pgqrs_remote_call((struct remote_store *)store, c, reply, err == NULL ? &unread : err);
}

static int call_done(struct pgqrs_store *store, struct pgqrs_store_call *c, struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call(store, c, &reply, err) < 0) {
        return -1;
    }
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int create(struct pgqrs_store *store, const struct pgqrs_schedule_put *put, int64_t *id_out,
                  struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_SCHEDULE_CREATE, .u.schedule = *put};
    struct pgqrs_store_reply reply;
    if (call(store, &c, &reply, err) < 0) {
        return -1;
    }
    *id_out = reply.u.id;
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int take_list(struct pgqrs_store *store, struct pgqrs_store_call *c,
                     struct pgqrs_schedule_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_reply reply;
    if (call(store, c, &reply, err) < 0) {
        return -1;
    }
    *list_out = reply.u.schedules;
    reply.u.schedules = (struct pgqrs_schedule_list){0};
    pgqrs_store_reply_fini(&reply);
    return 0;
}

static int list(struct pgqrs_store *store, const char *after, uint32_t limit,
                struct pgqrs_schedule_list *list_out, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_SCHEDULE_LIST,
                                 .u.schedules = {.after = after, .limit = limit}};
    return take_list(store, &c, list_out, err);
}

static int find(struct pgqrs_store *store, const char *name, struct pgqrs_schedule_list *one_out,
                struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_SCHEDULE_FIND, .u.name = name};
    struct pgqrs_error unread;
    if (take_list(store, &c, one_out, err) < 0) {
        return -1;
    }
    if (one_out->count != 1) {
        pgqrs_schedule_list_fini(one_out);
        return pgqrs_remote_nonsense((struct remote_store *)store, c.op,
                                     err == NULL ? &unread : err);
    }
    return 0;
}

static int pause_one(struct pgqrs_store *store, const char *name, bool paused,
                     struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_SCHEDULE_PAUSE,
                                 .u.schedule_pause = {.name = name, .paused = paused}};
    return call_done(store, &c, err);
}

static int remove_one(struct pgqrs_store *store, const char *name, struct pgqrs_error *err)
{
    struct pgqrs_store_call c = {.op = PGQRS_STORE_SCHEDULE_DELETE, .u.name = name};
    return call_done(store, &c, err);
}

/* Configuring and firing are the broker's own. */
const struct pgqrs_schedule_ops pgqrs_remote_schedule_ops = {
    .create = create,
    .list = list,
    .find = find,
    .pause = pause_one,
    .remove = remove_one,
};
