/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store_thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

STAILQ_HEAD(task_list, store_task);

struct pgqrs_store_thread {
    struct pgqrs_store *store;
    struct pgqrs_tally_page *page;
    void *arg;
    pthread_t thread;
    struct event *finished_event;
    int finished_fd; /* readable: something is in finished */
    size_t busy;     /* the loop's count */

    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t changed;
    struct task_list waiting, finished;
    bool stop;
};

static void lock(struct pgqrs_store_thread *t)
{
    (void)pthread_mutex_lock(&t->mutex); /* an error-free kind, used correctly */
}

static void unlock(struct pgqrs_store_thread *t)
{
    (void)pthread_mutex_unlock(&t->mutex);
}

/* ---- the store's thread ---- */

static struct store_task *next_task(struct pgqrs_store_thread *t)
{
    lock(t);
    while (!t->stop && STAILQ_EMPTY(&t->waiting)) {
        (void)pthread_cond_wait(&t->changed, &t->mutex);
    }
    struct store_task *task = t->stop ? NULL : STAILQ_FIRST(&t->waiting);
    if (task != NULL) {
        STAILQ_REMOVE_HEAD(&t->waiting, link);
    }
    unlock(t);
    return task;
}

static void finish_task(struct pgqrs_store_thread *t, struct store_task *task)
{
    const uint64_t one = 1;
    lock(t);
    bool tell = STAILQ_EMPTY(&t->finished);
    STAILQ_INSERT_TAIL(&t->finished, task, link);
    unlock(t);
    if (tell) {
        (void)!write(t->finished_fd, &one, sizeof one); /* can fail only when it is readable */
    }
}

/* What was asked for and can not be is an answer, too. */
static bool is_failure(const struct pgqrs_error *err)
{
    return err->code == PGQRS_ERR_AGAIN || err->code == PGQRS_ERR_UNKNOWN ||
           err->code == PGQRS_ERR_UNAVAILABLE || err->code == PGQRS_ERR_FAILED ||
           err->code == PGQRS_ERR_SCHEMA;
}

static void count_call(struct pgqrs_tally_page *page, const struct store_task *task,
                       int64_t took_us)
{
    pgqrs_histogram_add(&page->calls[task->call], PGQRS_HISTOGRAM_CALL, took_us);
    if (task->rc < 0 && is_failure(&task->err)) {
        pgqrs_count(&page->errors[task->call], 1);
    }
}

static void *run(void *arg)
{
    struct pgqrs_store_thread *t = arg;
    struct store_task *task;
    while ((task = next_task(t)) != NULL) {
        int64_t began_us = pgqrs_mono_us();
        task->run(t->store, task);
        count_call(t->page, task, pgqrs_mono_us() - began_us);
        finish_task(t, task);
    }
    return NULL;
}

/* ---- the loop's thread ---- */

static void on_finished(evutil_socket_t fd, short what, void *arg)
{
    struct pgqrs_store_thread *t = arg;
    struct task_list finished = STAILQ_HEAD_INITIALIZER(finished);
    uint64_t count;
    (void)what;
    (void)!read(fd, &count, sizeof count); /* not blocking; the list is what counts */
    lock(t);
    STAILQ_CONCAT(&finished, &t->finished);
    unlock(t);
    struct store_task *task;
    while ((task = STAILQ_FIRST(&finished)) != NULL) {
        STAILQ_REMOVE_HEAD(&finished, link);
        t->busy--;
        task->done(t->arg, task);
    }
}

/* Signals are the loop's. */
static int start_thread(struct pgqrs_store_thread *t)
{
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&t->thread, NULL, run, t);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

static void destroy(struct pgqrs_store_thread *t)
{
    if (t->finished_event != NULL) {
        event_free(t->finished_event);
    }
    if (t->finished_fd >= 0) {
        (void)close(t->finished_fd);
    }
    (void)pthread_cond_destroy(&t->changed);
    (void)pthread_mutex_destroy(&t->mutex);
    free(t);
}

int pgqrs_store_thread_start(struct event_base *base, struct pgqrs_store *store,
                             struct pgqrs_tally_page *page, void *arg,
                             struct pgqrs_store_thread **thread_out, struct pgqrs_error *err)
{
    struct pgqrs_store_thread *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return pgqrs_error_memory(err);
    }
    t->store = store;
    t->page = page;
    t->arg = arg;
    STAILQ_INIT(&t->waiting);
    STAILQ_INIT(&t->finished);
    (void)pthread_mutex_init(&t->mutex, NULL); /* these two can not fail on Linux */
    (void)pthread_cond_init(&t->changed, NULL);
    t->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->finished_fd >= 0) {
        t->finished_event = event_new(base, t->finished_fd, EV_READ | EV_PERSIST, on_finished, t);
    }
    if (t->finished_event == NULL || event_add(t->finished_event, NULL) < 0) {
        destroy(t);
        return pgqrs_error_memory(err);
    }
    int rc = start_thread(t);
    if (rc != 0) {
        destroy(t);
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, rc, "store thread");
    }
    *thread_out = t;
    return 0;
}

void pgqrs_store_thread_submit(struct pgqrs_store_thread *t, struct store_task *task)
{
    t->busy++;
    lock(t);
    STAILQ_INSERT_TAIL(&t->waiting, task, link);
    unlock(t);
    (void)pthread_cond_signal(&t->changed);
}

bool pgqrs_store_thread_busy(const struct pgqrs_store_thread *t)
{
    return t->busy > 0;
}

bool pgqrs_store_thread_stop(struct pgqrs_store_thread **thread, int64_t limit_ms)
{
    struct pgqrs_store_thread *t = *thread;
    struct timespec until;
    if (t == NULL) {
        return true;
    }
    lock(t);
    t->stop = true;
    unlock(t);
    (void)pthread_cond_signal(&t->changed);
    (void)clock_gettime(CLOCK_REALTIME, &until); /* what the join counts in */
    until.tv_sec += limit_ms / 1000;
    if (pthread_timedjoin_np(t->thread, NULL, &until) != 0) {
        return false;
    }
    STAILQ_CONCAT(&t->finished, &t->waiting);
    struct store_task *task;
    while ((task = STAILQ_FIRST(&t->finished)) != NULL) {
        STAILQ_REMOVE_HEAD(&t->finished, link);
        if (task->drop != NULL) {
            task->drop(task);
        }
    }
    destroy(t);
    *thread = NULL;
    return true;
}
