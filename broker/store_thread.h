/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BROKER_STORE_THREAD_H
#define PGQRS_BROKER_STORE_THREAD_H

/*
 * The thread that owns the store. A call of the store may wait, for a disk, a lock or a server; the
 * broker's loop never does. It gives this thread tasks, which are run one after the other in the
 * order they came, and hears from each when it is done. While a commit is under way the loop goes
 * on reading outcomes and handing out jobs; what arrives meanwhile is the next commit.
 *
 * All functions are called by the loop's thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "ipc/tally_page.h"
#include "store/store.h"

struct store_task {
    enum pgqrs_call_kind call; /* as what it is counted */
    STAILQ_ENTRY(store_task) link;
    /* On the store's thread: may use the store and what the task owns, nothing of the loop's. */
    void (*run)(struct pgqrs_store *store, struct store_task *task);
    /* Then in the loop; the task is its giver's again. */
    void (*done)(void *arg, struct store_task *task);
    /* Instead of done when the broker ends before it; null: nothing to free. */
    void (*drop)(struct store_task *task);
    int64_t rc; /* for run to fill, as a call of the store */
    struct pgqrs_error err;
};

struct pgqrs_store_thread;

/* arg is handed to every done. Store and page, where calls are counted, are borrowed until the
 * stop. */
int pgqrs_store_thread_start(struct event_base *base, struct pgqrs_store *store,
                             struct pgqrs_tally_page *page, void *arg,
                             struct pgqrs_store_thread **thread_out,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_store_thread_submit(struct pgqrs_store_thread *thread, struct store_task *task);
/* Whether a task was submitted whose done has not been called. */
bool pgqrs_store_thread_busy(const struct pgqrs_store_thread *thread);
/* Waits for the running task, at most limit_ms; drops the others. False:
 * it did not end, and neither thread nor store may be freed. Nulls the pointer on success. */
bool pgqrs_store_thread_stop(struct pgqrs_store_thread **thread, int64_t limit_ms);

#endif
