/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schedules: those of the configuration are put into the store, then what is due fires. A look is
 * one statement while nothing is due. It happens at the start, when the next tick is due by the
 * store's clock, when somebody may have changed a schedule, and every now and then.
 */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/schedule_plan.h"
#include "store/workflow.h"

#define LOOK_MS 200       /* at most so often because of a hint */
#define LOOK_MAX_MS 30000 /* at least so often where somebody wakes us */
#define AGAIN_MS 1000     /* after a failure */
#define LATER_US 500      /* a timer that is early looks twice */

struct schedules {
    struct store_task task;
    struct pgqrs_schedule_look look;
    struct event *timer;
    bool known; /* the configuration's are in the store: nothing that it has not fires */
    bool under_way, again;
    int64_t looked_ms;
    struct schedule_news *news; /* wait to be tried again */
    struct schedule_news *newest;
};
_Static_assert(offsetof(struct schedules, task) == 0, "one is taken for the other");

/* ---- looking ---- */

static void run_look(struct pgqrs_store *store, struct store_task *task)
{
    struct schedules *s = (struct schedules *)task;
    s->look.now_us = 0;
    task->rc = pgqrs_schedules_look(store, &s->look, &task->err);
}

static void look_in(struct schedules *s, int64_t us)
{
    const struct timeval delay = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    (void)evtimer_add(s->timer, &delay); /* a hint or a new broker looks, too */
}

static int64_t next_look_us(const struct broker *b)
{
    const struct pgqrs_schedule_look *look = &b->schedules->look;
    int64_t max_us = (b->wake == NULL ? b->look_ms : LOOK_MAX_MS) * 1000;
    if (look->next_us == 0) {
        return max_us;
    }
    int64_t left_us = look->next_us - look->now_us;
    return left_us < 0 ? 0 : left_us + LATER_US > max_us ? max_us : left_us + LATER_US;
}

static void looked(void *arg, struct store_task *task)
{
    struct broker *b = arg;
    struct schedules *s = b->schedules;
    s->under_way = false;
    if (s->look.messages > 0) {
        pgqrs_log_debug("broker: schedules: %zu fired, %zu messages", s->look.fired,
                        s->look.messages);
        pgqrs_commit_all_maybe_ready(b);
        pgqrs_clients_wake(b);
    }
    if (task->rc < 0) {
        pgqrs_log_debug("broker: schedules: %s", task->err.text);
        pgqrs_commit_trouble(b, &task->err);
        look_in(s, AGAIN_MS * INT64_C(1000));
        return;
    }
    if (s->look.trouble.code != PGQRS_ERR_NONE) {
        pgqrs_log_error("broker: does not fire, trying again in a minute: %s",
                        s->look.trouble.text);
    }
    look_in(s, next_look_us(b));
    if (s->again) {
        s->again = false;
        pgqrs_schedules_wake(b);
    }
}

static void look(struct broker *b)
{
    struct schedules *s = b->schedules;
    if (s->under_way || b->draining || !s->known) {
        return;
    }
    if (b->trouble_since_ms != 0) {
        look_in(s, AGAIN_MS * INT64_C(1000));
        return;
    }
    s->under_way = true;
    s->again = false;
    s->looked_ms = pgqrs_mono_ms();
    (void)evtimer_del(s->timer);
    pgqrs_store_thread_submit(b->store_thread, &s->task);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    look(arg);
}

void pgqrs_schedules_wake(struct broker *b)
{
    struct schedules *s = b->schedules;
    struct timeval at;
    struct timeval now;
    if (s->under_way) {
        s->again = true; /* it may have looked too early */
        return;
    }
    int64_t left_us = (s->looked_ms + LOOK_MS - pgqrs_mono_ms()) * 1000;
    if (left_us <= 0) {
        look(b);
        return;
    }
    if (evtimer_pending(s->timer, &at) && event_base_gettimeofday_cached(b->base, &now) == 0) {
        int64_t pending_us =
            (at.tv_sec - now.tv_sec) * INT64_C(1000000) + (at.tv_usec - now.tv_usec);
        if (pending_us <= left_us) {
            return;
        }
    }
    look_in(s, left_us);
}

/* ---- the configuration ---- */

struct schedule_news {
    struct store_task task;
    struct broker *b;
    struct event *again;
    struct pgqrs_buf frame; /* what the rest borrows from */
    struct pgqrs_broker_schedules m;
    struct pgqrs_schedule_put *puts;
};
_Static_assert(offsetof(struct schedule_news, task) == 0, "one is taken for the other");

static void news_free(struct schedule_news *news)
{
    if (news->again != NULL) {
        event_free(news->again);
    }
    pgqrs_buf_fini(&news->frame);
    free(news->m.items);
    free(news->puts);
    free(news);
}

static void drop_news(struct store_task *task)
{
    news_free((struct schedule_news *)task);
}

static void run_configure(struct pgqrs_store *store, struct store_task *task)
{
    struct schedule_news *news = (struct schedule_news *)task;
    int64_t id;
    task->rc = 0;
    for (size_t i = 0; i < news->m.count && task->rc == 0; i++) {
        if (news->m.items[i].workflow != 0) {
            task->rc =
                pgqrs_store_workflow_create(store, news->puts[i].queue, &id, NULL, &task->err);
        }
    }
    if (task->rc == 0) {
        task->rc = pgqrs_store_schedule_configure(store, news->m.config, news->puts, news->m.count,
                                                  &task->err);
    }
}

static void configured(void *arg, struct store_task *task)
{
    static const struct timeval pause = {.tv_sec = AGAIN_MS / 1000};
    struct broker *b = arg;
    struct schedule_news *news = (struct schedule_news *)task;
    if (news != b->schedules->newest || b->stopping) {
        news_free(news);
        return;
    }
    if (task->rc < 0) {
        pgqrs_log_warn("broker: the configuration's schedules are not in the store yet, trying "
                       "again: %s",
                       task->err.text);
        b->schedules->news = news;
        (void)evtimer_add(news->again, &pause);
        return;
    }
    if (task->rc > 0) {
        pgqrs_log_info("broker: schedules of the configuration: %zu, %lld changed in the store",
                       news->m.count, (long long)task->rc);
    }
    b->schedules->newest = NULL;
    b->schedules->known = true;
    news_free(news);
    pgqrs_schedules_wake(b);
}

static void submit(struct schedule_news *news)
{
    news->b->schedules->news = NULL;
    pgqrs_store_thread_submit(news->b->store_thread, &news->task);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    submit(arg);
}

static int take(struct schedule_news *news, const struct pgqrs_frame *frame,
                struct pgqrs_error *err)
{
    pgqrs_buf_put(&news->frame, frame->body, frame->len);
    if (news->frame.failed || news->again == NULL) {
        return pgqrs_error_memory(err);
    }
    const struct pgqrs_frame copy = {
        .type = frame->type, .body = news->frame.data, .len = news->frame.len};
    if (pgqrs_decode_broker_schedules(&copy, &news->m, err) < 0) {
        return -1;
    }
    news->puts = calloc(news->m.count + 1, sizeof *news->puts);
    if (news->puts == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < news->m.count; i++) {
        news->puts[i] = news->m.items[i].put;
    }
    return 0;
}

int pgqrs_schedules_configure(struct broker *b, const struct pgqrs_frame *frame,
                              struct pgqrs_error *err)
{
    struct schedules *s = b->schedules;
    struct schedule_news *news = calloc(1, sizeof *news);
    if (news == NULL) {
        return pgqrs_error_memory(err);
    }
    news->b = b;
    news->task = (struct store_task){
        .call = PGQRS_CALL_SCHEDULE, .run = run_configure, .done = configured, .drop = drop_news};
    news->again = evtimer_new(b->base, on_again, news);
    if (take(news, frame, err) < 0) {
        news_free(news);
        return -1;
    }
    if (s->news != NULL) {
        news_free(s->news);
    }
    s->newest = news;
    submit(news);
    return 0;
}

/* ---- start and end ---- */

int pgqrs_schedules_start(struct broker *b, struct pgqrs_error *err)
{
    struct schedules *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return pgqrs_error_memory(err);
    }
    b->schedules = s;
    s->task = (struct store_task){.call = PGQRS_CALL_SCHEDULE, .run = run_look, .done = looked};
    s->timer = evtimer_new(b->base, on_timer, b);
    return s->timer == NULL ? pgqrs_error_memory(err) : 0;
}

void pgqrs_schedules_fini(struct broker *b)
{
    struct schedules *s = b->schedules;
    if (s == NULL) {
        return;
    }
    b->schedules = NULL;
    if (s->timer != NULL) {
        event_free(s->timer);
    }
    if (s->news != NULL) {
        news_free(s->news);
    }
    free(s);
}
