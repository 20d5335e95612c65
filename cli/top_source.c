/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_source.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define STOP_MS 500
#define RESTS 4 /* as many times as a look took: looking is not to be a load */

struct pgqrs_top_source {
    const struct pgqrs_cli *cli;
    enum pgqrs_top_of of;
    int64_t every_ms;
    int wake_fd;
    pthread_t thread;
    struct pgqrs_store *store; /* the thread's */

    pthread_mutex_t mutex; /* for all below */
    pthread_cond_t changed;
    bool stopping, stopped;
    struct pgqrs_top_act act; /* to be done, or being done */
    struct pgqrs_top_news news;
    bool is_news;
    int64_t asked_ms; /* when the call began that it is in; 0: it is in none */
};

static void free_news(struct pgqrs_top_news *news)
{
    json_decref(news->status);
    pgqrs_top_counts_free(&news->counts);
    news->status = NULL;
    news->fetched = false;
}

static void tell(struct pgqrs_top_source *s)
{
    static const uint64_t one = 1;
    s->is_news = true;
    while (write(s->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

/* ---- on the thread; the mutex is held when they are called and when they return ---- */

static void fetch(struct pgqrs_top_source *s)
{
    struct pgqrs_top_news fresh = {.fetched = true};
    (void)pthread_mutex_unlock(&s->mutex);
    if (s->of == PGQRS_TOP_OF_PGQRSD) {
        fresh.status = pgqrs_top_fetch_status(s->cli, &fresh.err);
    } else {
        fresh.counts = pgqrs_top_fetch_counts(s->cli, &s->store, &fresh.err);
    }
    fresh.at_ms = pgqrs_mono_ms();
    (void)pthread_mutex_lock(&s->mutex);
    free_news(&s->news);
    memcpy(fresh.said, s->news.said, sizeof fresh.said);
    s->news = fresh;
    tell(s);
}

static void act_now(struct pgqrs_top_source *s)
{
    struct pgqrs_top_act what = s->act;
    char said[PGQRS_TOP_SAID] = "";
    (void)pthread_mutex_unlock(&s->mutex);
    if (s->of == PGQRS_TOP_OF_PGQRSD) {
        pgqrs_top_act_on_pgqrsd(s->cli, &what, said);
    } else {
        pgqrs_top_act_on_store(s->cli, &s->store, &what, said);
    }
    (void)pthread_mutex_lock(&s->mutex);
    memcpy(s->news.said, said, sizeof said);
    s->act.what = PGQRS_TOP_NOTHING;
    tell(s);
}

static void rest(struct pgqrs_top_source *s, int64_t until_ms)
{
    const struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
    (void)pthread_cond_timedwait(&s->changed, &s->mutex, &until);
}

static void *run(void *arg)
{
    struct pgqrs_top_source *s = arg;
    int64_t next_ms = 0;
    (void)pthread_mutex_lock(&s->mutex);
    while (!s->stopping) {
        int64_t began_ms = pgqrs_mono_ms();
        if (s->act.what == PGQRS_TOP_NOTHING && began_ms < next_ms) {
            rest(s, next_ms);
            continue;
        }
        s->asked_ms = began_ms;
        if (s->act.what != PGQRS_TOP_NOTHING) {
            act_now(s);
            next_ms = 0; /* what has changed is to be seen */
        } else {
            fetch(s);
            int64_t now_ms = pgqrs_mono_ms();
            int64_t rest_ms = (now_ms - began_ms) * RESTS;
            next_ms = now_ms + (rest_ms > s->every_ms ? rest_ms : s->every_ms);
        }
        s->asked_ms = 0;
    }
    (void)pthread_mutex_unlock(&s->mutex);
    pgqrs_store_close(&s->store);
    (void)pthread_mutex_lock(&s->mutex);
    s->stopped = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* ---- on the other thread ---- */

static int start_thread(struct pgqrs_top_source *s, struct pgqrs_error *err)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&s->thread, NULL, run, s);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : pgqrs_error_sys(err, PGQRS_ERR_FAILED, rc, "no thread");
}

int pgqrs_top_source_start(const struct pgqrs_cli *cli, enum pgqrs_top_of of, int64_t every_ms,
                           int wake_fd, struct pgqrs_top_source **source_out,
                           struct pgqrs_error *err)
{
    pthread_condattr_t monotonic;
    struct pgqrs_top_source *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return pgqrs_error_memory(err);
    }
    s->cli = cli;
    s->of = of;
    s->every_ms = every_ms;
    s->wake_fd = wake_fd;
    (void)pthread_mutex_init(&s->mutex, NULL); /* with Linux, these can not fail */
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    if (start_thread(s, err) < 0) {
        free(s);
        return -1;
    }
    *source_out = s;
    return 0;
}

bool pgqrs_top_source_take(struct pgqrs_top_source *source, struct pgqrs_top_news *news_out,
                           int64_t *asked_ms_out)
{
    (void)pthread_mutex_lock(&source->mutex);
    bool is_news = source->is_news;
    *asked_ms_out = source->asked_ms;
    if (is_news) {
        *news_out = source->news;
        source->news = (struct pgqrs_top_news){0};
        source->is_news = false;
    }
    (void)pthread_mutex_unlock(&source->mutex);
    return is_news;
}

bool pgqrs_top_source_do(struct pgqrs_top_source *source, const struct pgqrs_top_act *act)
{
    (void)pthread_mutex_lock(&source->mutex);
    bool idle = source->act.what == PGQRS_TOP_NOTHING;
    if (idle) {
        source->act = *act;
        (void)pthread_cond_broadcast(&source->changed);
    }
    (void)pthread_mutex_unlock(&source->mutex);
    return idle;
}

bool pgqrs_top_source_stop(struct pgqrs_top_source **source)
{
    struct pgqrs_top_source *s = *source;
    if (s == NULL) {
        return true;
    }
    int64_t until_ms = pgqrs_mono_ms() + STOP_MS;
    (void)pthread_mutex_lock(&s->mutex);
    s->stopping = true;
    (void)pthread_cond_broadcast(&s->changed);
    while (!s->stopped && pgqrs_mono_ms() < until_ms) {
        rest(s, until_ms);
    }
    bool stopped = s->stopped;
    (void)pthread_mutex_unlock(&s->mutex);
    if (stopped) {
        (void)pthread_join(s->thread, NULL);
        free_news(&s->news);
        (void)pthread_cond_destroy(&s->changed);
        (void)pthread_mutex_destroy(&s->mutex);
        free(s);
        *source = NULL;
    }
    return stopped;
}
