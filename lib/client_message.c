/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <stdlib.h>

#define PAGE 100
#define IDS_MAX 1000

_Static_assert((int)PGQRS_MESSAGE_READY == (int)PGQRS_STATE_READY &&
                   (int)PGQRS_MESSAGE_DELAYED == (int)PGQRS_STATE_DELAYED &&
                   (int)PGQRS_MESSAGE_LEASED == (int)PGQRS_STATE_LEASED &&
                   (int)PGQRS_MESSAGE_ARCHIVED == (int)PGQRS_STATE_ARCHIVED,
               "states by the same numbers");
_Static_assert((int)PGQRS_ACTION_CANCEL == (int)PGQRS_ACT_CANCEL &&
                   (int)PGQRS_ACTION_DELETE == (int)PGQRS_ACT_DELETE &&
                   (int)PGQRS_ACTION_FREE == (int)PGQRS_ACT_FREE &&
                   (int)PGQRS_ACTION_REPLAY == (int)PGQRS_ACT_REPLAY,
               "actions by the same numbers");

/* ---- looking ---- */

struct message_page { /* what a struct pgqrs_message_page is the beginning of */
    struct pgqrs_message_page page;
    struct pgqrs_message_list list; /* the texts */
    struct pgqrs_message_entry items[];
};

static struct pgqrs_message_entry entry_of(const struct pgqrs_message *m)
{
    return (struct pgqrs_message_entry){
        .id = m->id,
        .queue_id = m->queue_id,
        .status = (enum pgqrs_message_status)(int)m->state,
        .attempts = m->read_ct < 0 ? 0 : (uint32_t)m->read_ct,
        .priority = m->priority,
        .crashes = m->crash_ct < 0 ? 0 : (uint32_t)m->crash_ct,
        .enqueued_at_us = m->enqueued_at_us,
        .due_at_us = m->vt_us,
        .dequeued_at_us = m->dequeued_at_us,
        .archived_at_us = m->archived_at_us,
        .consumer_id = m->consumer_worker_id,
        .producer_id = m->producer_worker_id,
        .payload = m->payload,
        .unique_key = m->unique_key,
        .outcome = m->outcome,
        .result = m->result,
        .error = m->error,
    };
}

/* Takes the list over, also when it fails. */
static int make_page(struct pgqrs_message_list *list, struct pgqrs_message_page **page_out,
                     struct pgqrs_failure *failure)
{
    struct message_page *page = calloc(1, sizeof *page + list->count * sizeof *page->items);
    if (page == NULL) {
        pgqrs_message_list_fini(list);
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < list->count; i++) {
        page->items[i] = entry_of(&list->items[i]);
    }
    page->list = *list;
    page->page = (struct pgqrs_message_page){
        .items = page->items, .count = list->count, .next = list->next_before_id};
    *page_out = &page->page;
    return 0;
}

void pgqrs_message_page_free(struct pgqrs_message_page *page)
{
    struct message_page *all = (struct message_page *)page;
    if (all != NULL) {
        pgqrs_message_list_fini(&all->list);
        free(all);
    }
}

int pgqrs_message_get(struct pgqrs_client *client, int64_t id, struct pgqrs_message_page **page_out,
                      struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    struct pgqrs_message_list list = {.items = calloc(1, sizeof *list.items)};
    if (list.items == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    if (pgqrs_store_message_get(client->store, id, list.items, &err) < 0) {
        free(list.items);
        return pgqrs_client_fail(failure, &err);
    }
    list.count = 1;
    return make_page(&list, page_out, failure);
}

int pgqrs_message_list(struct pgqrs_client *client, const struct pgqrs_message_query *query,
                       struct pgqrs_message_page **page_out, struct pgqrs_failure *failure)
{
    static const struct pgqrs_message_query all;
    const struct pgqrs_message_query *q = query == NULL ? &all : query;
    struct pgqrs_message_filter filter = {.state = (enum pgqrs_message_state)(int)q->status,
                                          .outcome = q->outcome,
                                          .consumer_worker_id = q->consumer_id,
                                          .unique_key = q->unique_key,
                                          .before_id = q->next,
                                          .limit = q->limit == 0 ? PAGE : q->limit};
    struct pgqrs_message_list list;
    struct pgqrs_error err;
    if (PGQRS_CLIENT_RESERVED("query", q, failure) < 0 ||
        pgqrs_client_queue(client, q->queue, false, &filter.queue_id, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_message_list(client->store, &filter, &list, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    return make_page(&list, page_out, failure);
}

/* ---- acting ---- */

static enum pgqrs_code code_of(enum pgqrs_acted acted)
{
    switch (acted) {
    case PGQRS_ACTED_YES:
        return PGQRS_OK;
    case PGQRS_ACTED_NOT_FOUND:
        return PGQRS_E_NOT_FOUND;
    case PGQRS_ACTED_WAITING:
    case PGQRS_ACTED_LEASED:
    case PGQRS_ACTED_ASKED:
    case PGQRS_ACTED_ARCHIVED:
        return PGQRS_E_CONFLICT;
    case PGQRS_ACTED_KEY:
        return PGQRS_E_EXISTS;
    case PGQRS_ACTED_NONE:
    case PGQRS_ACTED_COUNT:
        break;
    }
    return PGQRS_E_FAILED;
}

static int64_t act(struct pgqrs_client *client, enum pgqrs_action action, const int64_t *ids,
                   size_t count, enum pgqrs_acted *acted_out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    int64_t done = pgqrs_store_message_act(client->store, (enum pgqrs_act)(int)action, ids, count,
                                           acted_out, &err);
    return done < 0 ? pgqrs_client_fail(failure, &err) : done;
}

int64_t pgqrs_message_act(struct pgqrs_client *client, enum pgqrs_action action, const int64_t *ids,
                          size_t count, enum pgqrs_code *codes_out, struct pgqrs_failure *failure)
{
    if (count > IDS_MAX) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "messages: found %zu ids, expected up to %d", count, IDS_MAX);
    }
    enum pgqrs_acted *acted = calloc(count + 1, sizeof *acted);
    if (acted == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    int64_t done = act(client, action, ids, count, acted, failure);
    for (size_t i = 0; done >= 0 && codes_out != NULL && i < count; i++) {
        codes_out[i] = code_of(acted[i]);
    }
    free(acted);
    return done;
}

static int act_on_one(struct pgqrs_client *client, enum pgqrs_action action, int64_t id,
                      struct pgqrs_failure *failure)
{
    static const char *const why[] = {
        [PGQRS_ACTED_NOT_FOUND] = "does not exist",
        [PGQRS_ACTED_WAITING] = "waits",
        [PGQRS_ACTED_LEASED] = "is leased",
        [PGQRS_ACTED_ARCHIVED] = "has ended",
        [PGQRS_ACTED_KEY] = "has the unique key of another one that has not ended",
        [PGQRS_ACTED_ASKED] = "is leased, and its worker is asked to stop",
    };
    enum pgqrs_acted acted = PGQRS_ACTED_NONE;
    int64_t done = act(client, action, &id, 1, &acted, failure);
    if (done < 0 || acted == PGQRS_ACTED_YES) {
        return done < 0 ? -1 : 0;
    }
    const char *text = (size_t)acted < sizeof why / sizeof *why ? why[acted] : NULL;
    return pgqrs_client_refuse(failure, code_of(acted), "message %lld %s", (long long)id,
                               text == NULL ? "was left alone" : text);
}

int pgqrs_message_cancel(struct pgqrs_client *client, int64_t id, struct pgqrs_failure *failure)
{
    return act_on_one(client, PGQRS_ACTION_CANCEL, id, failure);
}

int pgqrs_message_delete(struct pgqrs_client *client, int64_t id, struct pgqrs_failure *failure)
{
    return act_on_one(client, PGQRS_ACTION_DELETE, id, failure);
}

int pgqrs_message_replay(struct pgqrs_client *client, int64_t id, struct pgqrs_failure *failure)
{
    return act_on_one(client, PGQRS_ACTION_REPLAY, id, failure);
}
