/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <stdlib.h>

#define PAGE 100

_Static_assert((int)PGQRS_STATUS_READY == (int)PGQRS_WORKER_READY &&
                   (int)PGQRS_STATUS_POLLING == (int)PGQRS_WORKER_POLLING &&
                   (int)PGQRS_STATUS_SUSPENDED == (int)PGQRS_WORKER_SUSPENDED &&
                   (int)PGQRS_STATUS_INTERRUPTED == (int)PGQRS_WORKER_INTERRUPTED &&
                   (int)PGQRS_STATUS_STOPPED == (int)PGQRS_WORKER_STOPPED,
               "states by the same numbers");

/* ---- producers ---- */

int pgqrs_producer_register(struct pgqrs_client *client, const char *name, const char *queue,
                            int64_t stale_ms, int64_t *id_out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    int64_t queue_id = 0;
    if (pgqrs_client_queue(client, queue, false, &queue_id, failure) < 0) {
        return -1;
    }
    if (stale_ms < 0) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "producer: found stale_ms %lld, expected 0 or more",
                                   (long long)stale_ms);
    }
    const struct pgqrs_worker_row row = {.name = name, .queue_id = queue_id, .stale_ms = stale_ms};
    return pgqrs_store_worker_register(client->store, &row, id_out, &err) < 0
               ? pgqrs_client_fail(failure, &err)
               : 0;
}

/* ---- looking ---- */

struct worker_page { /* what a struct pgqrs_worker_page is the beginning of */
    struct pgqrs_worker_page page;
    struct pgqrs_worker_info_list list; /* the texts */
    struct pgqrs_worker_entry items[];
};

static struct pgqrs_worker_entry entry_of(const struct pgqrs_worker_info *w)
{
    return (struct pgqrs_worker_entry){.id = w->id,
                                       .queue_id = w->queue_id,
                                       .status = (enum pgqrs_worker_status)(int)w->state,
                                       .started_at_us = w->started_at_us,
                                       .heartbeat_at_us = w->heartbeat_at_us,
                                       .stopped_at_us = w->shutdown_at_us,
                                       .held = w->held,
                                       .pid = w->pid,
                                       .name = w->name,
                                       .instance = w->instance};
}

int pgqrs_worker_list(struct pgqrs_client *client, const struct pgqrs_worker_query *query,
                      struct pgqrs_worker_page **page_out, struct pgqrs_failure *failure)
{
    static const struct pgqrs_worker_query all;
    const struct pgqrs_worker_query *q = query == NULL ? &all : query;
    struct pgqrs_worker_filter filter = {.id = q->id,
                                         .state = (enum pgqrs_worker_state)(int)q->status,
                                         .name_prefix = q->name_prefix,
                                         .live = q->live,
                                         .before_id = q->next,
                                         .limit = q->limit == 0 ? PAGE : q->limit};
    struct pgqrs_worker_info_list list;
    struct pgqrs_error err;
    if (PGQRS_CLIENT_RESERVED("query", q, failure) < 0 ||
        pgqrs_client_queue(client, q->queue, false, &filter.queue_id, failure) < 0) {
        return -1;
    }
    if ((unsigned)q->status >= PGQRS_WORKER_STATE_COUNT) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID,
                                   "query: found status %d, which is none", (int)q->status);
    }
    if (pgqrs_store_worker_list(client->store, &filter, &list, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    struct worker_page *page = calloc(1, sizeof *page + list.count * sizeof *page->items);
    if (page == NULL) {
        pgqrs_worker_info_list_fini(&list);
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < list.count; i++) {
        page->items[i] = entry_of(&list.items[i]);
    }
    page->list = list;
    page->page = (struct pgqrs_worker_page){
        .items = page->items,
        .count = list.count,
        .next = list.count == filter.limit ? list.items[list.count - 1].id : 0,
        .now_us = list.now_us};
    *page_out = &page->page;
    return 0;
}

void pgqrs_worker_page_free(struct pgqrs_worker_page *page)
{
    struct worker_page *all = (struct worker_page *)page;
    if (all != NULL) {
        pgqrs_worker_info_list_fini(&all->list);
        free(all);
    }
}

/* ---- ordering about ---- */

static int move(struct pgqrs_client *client, int64_t id, enum pgqrs_worker_move how,
                struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    return pgqrs_store_worker_move(client->store, id, how, &err) < 0
               ? pgqrs_client_fail(failure, &err)
               : 0;
}

int pgqrs_worker_interrupt(struct pgqrs_client *client, int64_t id, struct pgqrs_failure *failure)
{
    return move(client, id, PGQRS_MOVE_INTERRUPT, failure);
}

int pgqrs_worker_suspend(struct pgqrs_client *client, int64_t id, struct pgqrs_failure *failure)
{
    return move(client, id, PGQRS_MOVE_SUSPEND, failure);
}

int pgqrs_worker_resume(struct pgqrs_client *client, int64_t id, struct pgqrs_failure *failure)
{
    return move(client, id, PGQRS_MOVE_RESUME, failure);
}

int pgqrs_worker_stop(struct pgqrs_client *client, int64_t id, struct pgqrs_failure *failure)
{
    return move(client, id, PGQRS_MOVE_STOP, failure);
}

int pgqrs_worker_delete(struct pgqrs_client *client, int64_t id, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    return pgqrs_store_worker_delete(client->store, id, &err) < 0 ? pgqrs_client_fail(failure, &err)
                                                                  : 0;
}
