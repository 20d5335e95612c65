/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/client_priv.h"

#include <stdlib.h>

#define PAGE 1000

int pgqrs_client_queue(struct pgqrs_client *client, const char *name, bool required,
                       int64_t *id_out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (name == NULL && required) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID, "queue: found no name");
    }
    int64_t id = 0;
    if (name != NULL && pgqrs_store_queue_find(client->store, name, &id, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    *id_out = id;
    return 0;
}

int pgqrs_queue_create(struct pgqrs_client *client, const char *name, int64_t *id_out,
                       struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    int64_t id = 0;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (name == NULL) {
        return pgqrs_client_refuse(failure, PGQRS_E_INVALID, "queue: found no name");
    }
    if (pgqrs_store_queue_create(client->store, name, &id, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    if (id_out != NULL) {
        *id_out = id;
    }
    return 0;
}

int pgqrs_queue_find(struct pgqrs_client *client, const char *name, int64_t *id_out,
                     struct pgqrs_failure *failure)
{
    return pgqrs_client_queue(client, name, true, id_out, failure);
}

struct queue_page { /* what a struct pgqrs_queue_page is the beginning of */
    struct pgqrs_queue_page page;
    struct pgqrs_queue_list list; /* the names */
    struct pgqrs_queue_entry items[];
};

int pgqrs_queue_list(struct pgqrs_client *client, int64_t next, struct pgqrs_queue_page **page_out,
                     struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    struct pgqrs_queue_list list;
    if (pgqrs_client_need(client, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_queue_list(client->store, next, PAGE, &list, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    struct queue_page *page = calloc(1, sizeof *page + list.count * sizeof *page->items);
    if (page == NULL) {
        pgqrs_queue_list_fini(&list);
        return pgqrs_client_refuse(failure, PGQRS_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct pgqrs_queue *from = &list.items[i];
        page->items[i] = (struct pgqrs_queue_entry){.id = from->id,
                                                    .name = from->name,
                                                    .created_at_us = from->created_at_us,
                                                    .paused_at_us = from->paused_at_us};
    }
    page->list = list;
    page->page.items = page->items;
    page->page.count = list.count;
    page->page.next = list.count == PAGE ? list.items[PAGE - 1].id : 0;
    *page_out = &page->page;
    return 0;
}

void pgqrs_queue_page_free(struct pgqrs_queue_page *page)
{
    struct queue_page *all = (struct queue_page *)page;
    if (all != NULL) {
        pgqrs_queue_list_fini(&all->list);
        free(all);
    }
}

static int set_paused(struct pgqrs_client *client, const char *name, bool paused,
                      struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    int64_t id = 0;
    if (pgqrs_client_queue(client, name, true, &id, failure) < 0) {
        return -1;
    }
    return pgqrs_store_queue_pause(client->store, id, paused, &err) < 0
               ? pgqrs_client_fail(failure, &err)
               : 0;
}

int pgqrs_queue_pause(struct pgqrs_client *client, const char *name, struct pgqrs_failure *failure)
{
    return set_paused(client, name, true, failure);
}

int pgqrs_queue_resume(struct pgqrs_client *client, const char *name, struct pgqrs_failure *failure)
{
    return set_paused(client, name, false, failure);
}

int pgqrs_queue_delete(struct pgqrs_client *client, const char *name, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    int64_t id = 0;
    if (pgqrs_client_queue(client, name, true, &id, failure) < 0) {
        return -1;
    }
    return pgqrs_store_queue_delete(client->store, id, &err) < 0 ? pgqrs_client_fail(failure, &err)
                                                                 : 0;
}

int64_t pgqrs_queue_purge(struct pgqrs_client *client, const char *name, unsigned which,
                          struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    int64_t id = 0;
    int64_t all = 0;
    int64_t step;
    if (pgqrs_client_queue(client, name, true, &id, failure) < 0) {
        return -1;
    }
    do {
        step = pgqrs_store_queue_purge(client->store, id, which, PGQRS_CLIENT_STEP, &err);
        if (step < 0) {
            return pgqrs_client_fail(failure, &err);
        }
        all += step;
    } while (step >= PGQRS_CLIENT_STEP);
    return all;
}

int pgqrs_queue_metrics(struct pgqrs_client *client, const char *name, uint64_t count_max,
                        struct pgqrs_counts *counts_out, struct pgqrs_failure *failure)
{
    struct pgqrs_error err;
    struct pgqrs_queue_metrics m;
    int64_t id = 0;
    if (pgqrs_client_queue(client, name, false, &id, failure) < 0) {
        return -1;
    }
    if (pgqrs_store_queue_metrics(client->store, id, count_max, &m, &err) < 0) {
        return pgqrs_client_fail(failure, &err);
    }
    *counts_out = (struct pgqrs_counts){.total = m.total,
                                        .pending = m.pending,
                                        .ready = m.ready,
                                        .leased = m.leased,
                                        .archived = m.archived,
                                        .failed = m.failed,
                                        .oldest_pending_us = m.oldest_pending_us,
                                        .newest_us = m.newest_us,
                                        .next_due_us = m.next_due_us,
                                        .now_us = m.now_us};
    return 0;
}
