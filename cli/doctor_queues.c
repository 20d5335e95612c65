/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of queues, their messages and their workers. */
#include "cli/doctor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/runs.h"

#define WORKERS_PAGE 1000
#define MESSAGES_PAGE 100                /* payloads come with them */
#define MESSAGES_PAGES 100               /* of what waits, so many are looked at */
#define IDS_SHOWN 10                     /* in a command */
#define ATTEMPTS_OF_PGQRS 5              /* where its clients stop */
#define START_US INT64_C(10000000)       /* within which pgqrsd starts workers for what waits */
#define QUARANTINED "quarantined after " /* how the broker's error begins */

static int list_messages(struct pgqrs_doctor *d, const struct pgqrs_message_filter *filter,
                         struct pgqrs_message_list *list_out, struct pgqrs_error *err)
{
    int rc;
    PGQRS_RUN_TRY(rc, err, pgqrs_store_message_list(d->cli->store, filter, list_out, err));
    return rc;
}

static int list_workers(struct pgqrs_doctor *d, const struct pgqrs_worker_filter *filter,
                        struct pgqrs_worker_info_list *list_out, struct pgqrs_error *err)
{
    int rc;
    PGQRS_RUN_TRY(rc, err, pgqrs_store_worker_list(d->cli->store, filter, list_out, err));
    return rc;
}

/* ---- leases of dead workers ---- */

static bool is_dead(const struct pgqrs_worker_info *w, int64_t now_us)
{
    return w->state == PGQRS_WORKER_STOPPED || now_us - w->heartbeat_at_us > PGQRS_DOCTOR_STALE_US;
}

static int tell_dead(struct pgqrs_doctor *d, const struct pgqrs_worker_info *w, int64_t now_us,
                     struct pgqrs_error *err)
{
    const struct pgqrs_message_filter filter = {
        .consumer_worker_id = w->id, .state = PGQRS_STATE_LEASED, .limit = MESSAGES_PAGE};
    struct pgqrs_message_list list = {0};
    char took[PGQRS_TOOK_SIZE];
    size_t passed = 0;
    int64_t first = 0;
    if (list_messages(d, &filter, &list, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (list.items[i].vt_us < now_us) {
            passed++;
            first = list.items[i].id;
        }
    }
    if (passed > 0) {
        pgqrs_doctor_found(
            d, PGQRS_SEVERITY_ERROR,
            "worker %" PRId64 " of queue \"%s\" is dead (%s, no heartbeat for %s) "
            "and holds %zu%s message%s with a lease that has passed, such as %" PRId64,
            w->id, pgqrs_cli_queue_name(&d->queues, w->queue_id), pgqrs_worker_state_name(w->state),
            pgqrs_took(now_us - w->heartbeat_at_us, took), passed,
            list.next_before_id != 0 ? "+" : "", PGQRS_PLURAL(passed), first);
        pgqrs_doctor_mend(d, "pgqrs worker stop %" PRId64 " --yes", w->id);
    }
    pgqrs_message_list_fini(&list);
    return 0;
}

int pgqrs_check_dead_leases(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    struct pgqrs_worker_filter filter = {.limit = WORKERS_PAGE};
    size_t got = WORKERS_PAGE;
    while (got == WORKERS_PAGE) {
        struct pgqrs_worker_info_list page = {0};
        int rc = list_workers(d, &filter, &page, err);
        got = rc < 0 ? 0 : page.count;
        for (size_t i = 0; rc == 0 && i < got; i++) {
            const struct pgqrs_worker_info *w = &page.items[i];
            filter.before_id = w->id;
            if (w->held > 0 && is_dead(w, page.now_us)) {
                rc = tell_dead(d, w, page.now_us, err);
            }
        }
        pgqrs_worker_info_list_fini(&page);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- queues that stand still ---- */

static void tell_paused_here(struct pgqrs_doctor *d, const struct pgqrs_queue *queue,
                             int64_t pending)
{
    char word[PGQRS_SHELL_WORD_SIZE];
    bool drained = json_is_object(json_object_get(d->pgqrsd, "drain"));
    pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                       "queue \"%s\" is %s in the pgqrsd that runs here, with %" PRId64
                       " message%s waiting",
                       queue->name, drained ? "drained" : "paused", pending, PGQRS_PLURAL(pending));
    if (drained) {
        pgqrs_doctor_mend(d, "pgqrs ctl resume");
    } else {
        pgqrs_doctor_mend(d, "pgqrs ctl resume %s", pgqrs_shell_word(queue->name, word));
    }
}

int pgqrs_check_paused(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    char word[PGQRS_SHELL_WORD_SIZE];
    (void)err;
    for (size_t i = 0; i < d->queues.count; i++) {
        const struct pgqrs_queue *queue = &d->queues.items[i];
        const struct pgqrs_queue_metrics *m = &d->facts[i].messages;
        char took[PGQRS_TOOK_SIZE];
        if (queue->paused_at_us != 0 && m->pending > 0) {
            pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                               "queue \"%s\" has been paused for %s, with %" PRId64
                               " message%s waiting",
                               queue->name, pgqrs_took(m->now_us - queue->paused_at_us, took),
                               m->pending, PGQRS_PLURAL(m->pending));
            pgqrs_doctor_mend(d, "pgqrs queue resume %s", pgqrs_shell_word(queue->name, word));
        } else if (m->pending > 0 && json_is_true(json_object_get(d->facts[i].served, "paused"))) {
            tell_paused_here(d, queue, m->pending);
        }
    }
    return 0;
}

/* The ids of the suspended and interrupted workers of a queue, as words of a command. */
static int suspended_ids(struct pgqrs_doctor *d, int64_t queue_id, char *out, size_t size,
                         struct pgqrs_error *err)
{
    const struct pgqrs_worker_filter filter = {
        .queue_id = queue_id, .live = true, .limit = WORKERS_PAGE};
    struct pgqrs_worker_info_list list = {0};
    size_t at = 0;
    if (list_workers(d, &filter, &list, err) < 0) {
        return -1;
    }
    out[0] = 0;
    for (size_t i = 0, shown = 0; i < list.count && shown < IDS_SHOWN && at + 24 < size; i++) {
        if (list.items[i].state == PGQRS_WORKER_SUSPENDED &&
            !is_dead(&list.items[i], list.now_us)) {
            at += (size_t)snprintf(out + at, size - at, " %" PRId64, list.items[i].id);
            shown++;
        }
    }
    pgqrs_worker_info_list_fini(&list);
    return 0;
}

static int tell_unserved(struct pgqrs_doctor *d, size_t at, struct pgqrs_error *err)
{
    const struct pgqrs_queue *queue = &d->queues.items[at];
    const struct pgqrs_doctor_queue *facts = &d->facts[at];
    char word[PGQRS_SHELL_WORD_SIZE];
    char ids[IDS_SHOWN * 24];
    char took[PGQRS_TOOK_SIZE];
    if (suspended_ids(d, queue->id, ids, sizeof ids, err) < 0) {
        return -1;
    }
    (void)pgqrs_took(facts->messages.now_us - facts->messages.oldest_pending_us, took);
    pgqrs_doctor_found(
        d, PGQRS_SEVERITY_ERROR,
        "queue \"%s\" has %" PRId64 " due message%s, the oldest waits for %s, and %s", queue->name,
        facts->messages.ready, PGQRS_PLURAL(facts->messages.ready), took,
        ids[0] != 0             ? "its workers are suspended"
        : facts->served != NULL ? "its pgqrsd has no worker for it"
                                : "nobody serves it");
    if (ids[0] != 0) {
        pgqrs_doctor_mend(d, "pgqrs worker resume%s", ids);
    } else if (facts->served != NULL) {
        pgqrs_doctor_mend(d, "pgqrs worker scale %s 1", pgqrs_shell_word(queue->name, word));
    } else if (d->pgqrsd != NULL) {
        pgqrs_doctor_mend(d, "pgqrs ctl reload, once its configuration has the queue");
    } else {
        pgqrs_doctor_mend(d, "pgqrsd -c FILE, with the queue in it");
    }
    return 0;
}

/* pgqrsd may be about to start workers, or say in another finding why it does not. */
static bool is_left_to_pgqrsd(const struct pgqrs_doctor_queue *facts)
{
    const struct pgqrs_queue_metrics *m = &facts->messages;
    return facts->served != NULL && (pgqrs_status_number(facts->served, "consumers") > 0 ||
                                     m->now_us - m->oldest_pending_us < START_US);
}

int pgqrs_check_unserved(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    for (size_t i = 0; i < d->queues.count; i++) {
        const struct pgqrs_worker_stats *w = &d->facts[i].workers;
        if (d->facts[i].messages.ready > 0 && d->queues.items[i].paused_at_us == 0 &&
            w->ready + w->polling <= w->stale &&
            (w->suspended > 0 || !is_left_to_pgqrsd(&d->facts[i])) &&
            tell_unserved(d, i, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- dead letters ---- */

static int tell_dead_letters(struct pgqrs_doctor *d, const struct pgqrs_queue *queue, int64_t count,
                             struct pgqrs_error *err)
{
    const struct pgqrs_message_filter filter = {
        .queue_id = queue->id, .outcome = "failed", .limit = MESSAGES_PAGE};
    struct pgqrs_message_list list = {0};
    const struct pgqrs_message *poison = NULL;
    char word[PGQRS_SHELL_WORD_SIZE];
    size_t quarantined = 0;
    if (list_messages(d, &filter, &list, err) < 0) {
        return -1;
    }
    (void)pgqrs_shell_word(queue->name, word);
    for (size_t i = 0; i < list.count; i++) {
        const char *error = list.items[i].error;
        if (error != NULL && strncmp(error, QUARANTINED, strlen(QUARANTINED)) == 0) {
            poison = poison == NULL ? &list.items[i] : poison;
            quarantined++;
        }
    }
    if (poison != NULL) {
        pgqrs_doctor_found(d, PGQRS_SEVERITY_ERROR,
                           "queue \"%s\" has %zu job%s in quarantine, such as %" PRId64 ": %.300s",
                           queue->name, quarantined, PGQRS_PLURAL(quarantined), poison->id,
                           poison->error);
        pgqrs_doctor_mend(d, "pgqrs message run %" PRId64 " --isolated", poison->id);
    }
    if (count > (int64_t)quarantined && list.count > 0) {
        const char *error = list.items[0].error;
        pgqrs_doctor_found(
            d, PGQRS_SEVERITY_WARNING,
            "queue \"%s\" has %" PRId64 " dead letter%s, the newest is %" PRId64 ": %.300s",
            queue->name, count, PGQRS_PLURAL(count), list.items[0].id, error != NULL ? error : "?");
        pgqrs_doctor_mend(d, "pgqrs dlq list --queue %s; pgqrs dlq replay --queue %s", word, word);
    }
    pgqrs_message_list_fini(&list);
    return 0;
}

int pgqrs_check_dead_letters(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    for (size_t i = 0; i < d->queues.count; i++) {
        int64_t count = d->facts[i].messages.failed;
        if (count > 0 && tell_dead_letters(d, &d->queues.items[i], count, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- messages that pgqrs' clients leave ---- */

struct spent {
    char ids[IDS_SHOWN * 24];
    size_t at, count;
};

static int find_spent(struct pgqrs_doctor *d, int64_t queue_id, struct spent *s,
                      struct pgqrs_error *err)
{
    struct pgqrs_message_filter filter = {
        .queue_id = queue_id, .state = PGQRS_STATE_READY, .limit = MESSAGES_PAGE};
    for (int page = 0; page < MESSAGES_PAGES; page++) {
        struct pgqrs_message_list list = {0};
        if (list_messages(d, &filter, &list, err) < 0) {
            return -1;
        }
        for (size_t i = 0; i < list.count; i++) {
            if (list.items[i].read_ct - list.items[i].crash_ct < ATTEMPTS_OF_PGQRS) {
                continue;
            }
            if (s->count++ < IDS_SHOWN) {
                s->at += (size_t)snprintf(s->ids + s->at, sizeof s->ids - s->at, " %" PRId64,
                                          list.items[i].id);
            }
        }
        filter.before_id = list.next_before_id;
        pgqrs_message_list_fini(&list);
        if (filter.before_id == 0) {
            break;
        }
    }
    return 0;
}

/* Then its broker makes dead letters of them, as many attempts as the configuration says. */
static int has_pgqrsd(struct pgqrs_doctor *d, size_t at, struct pgqrs_error *err)
{
    const struct pgqrs_worker_filter filter = {
        .queue_id = d->queues.items[at].id, .live = true, .ours = true, .limit = WORKERS_PAGE};
    struct pgqrs_worker_info_list list = {0};
    int has = d->facts[at].served != NULL;
    if (has == 0 && list_workers(d, &filter, &list, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < list.count; i++) {
        has = has != 0 || !is_dead(&list.items[i], list.now_us);
    }
    pgqrs_worker_info_list_fini(&list);
    return has;
}

int pgqrs_check_spent(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    for (size_t i = 0; i < d->queues.count; i++) {
        const struct pgqrs_queue *queue = &d->queues.items[i];
        struct spent spent = {0};
        int has = d->facts[i].messages.ready == 0 ? 1 : has_pgqrsd(d, i, err);
        if (has < 0 || (has == 0 && find_spent(d, queue->id, &spent, err) < 0)) {
            return -1;
        }
        if (spent.count > 0) {
            pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                               "queue \"%s\" has %zu waiting message%s with %d attempts or more "
                               "used up, which clients of pgqrs leave:%s%s",
                               queue->name, spent.count, PGQRS_PLURAL(spent.count),
                               ATTEMPTS_OF_PGQRS, spent.ids, spent.count > IDS_SHOWN ? " ..." : "");
            pgqrs_doctor_mend(d, "pgqrs message cancel%s; pgqrs message replay%s", spent.ids,
                              spent.ids);
        }
    }
    return 0;
}
