/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts for pgqrsd, in memory that outlives the broker (ipc/tally_page.h). An outcome is counted
 * once it is known to be stored, and once: which were sent to the store and which were counted is
 * there, too. A worker that was not told before its broker died sends an outcome again, and then
 * the new broker finds out whether the old one stored it, and whether it counted it.
 */
#include "broker/broker.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "ipc/child.h"

int pgqrs_tally_open(struct broker *b, struct pgqrs_error *err)
{
    struct stat st;
    void *memory = MAP_FAILED;
    if (fstat(PGQRS_FD_TALLY, &st) == 0 && st.st_size == sizeof *b->page) {
        memory = mmap(NULL, sizeof *b->page, PROT_READ | PROT_WRITE, MAP_SHARED, PGQRS_FD_TALLY, 0);
    }
    if (memory == MAP_FAILED) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "memory of pgqrsd's counters");
    }
    b->page = memory;
    return 0;
}

struct pgqrs_queue_tally *pgqrs_tally_of(struct broker *b, const struct broker_queue *queue)
{
    return &b->page->queues[queue->settings.place];
}

void pgqrs_tally_freed(struct broker *b, const struct broker_queue *queue,
                       enum pgqrs_freed_kind why, int64_t count)
{
    pgqrs_count(&pgqrs_tally_of(b, queue)->leases_freed[why], count < 0 ? 0 : (uint64_t)count);
}

void pgqrs_tally_wakeup(struct broker *b, enum pgqrs_wakeup_kind why)
{
    pgqrs_count(&b->page->wakeups[why], 1);
}

/* ---- outcomes ---- */

uint64_t pgqrs_tally_send(struct broker *b, int64_t message_id, uint32_t attempt)
{
    uint64_t number = b->page->sent_count++;
    b->page->sent[number % PGQRS_TALLY_SENT] =
        (struct pgqrs_tally_sent){.message_id = message_id, .attempt = attempt};
    return number;
}

static struct pgqrs_tally_sent *sent_of(struct broker *b, uint64_t number,
                                        const struct tally_outcome *o)
{
    struct pgqrs_tally_sent *sent = &b->page->sent[number % PGQRS_TALLY_SENT];
    return sent->message_id == o->message_id && sent->attempt == o->attempt ? sent : NULL;
}

enum before { NOT_SENT, SENT, COUNTED };

/* Whether the same outcome was sent to the store before. */
static enum before look_back(struct broker *b, const struct tally_outcome *o)
{
    enum before before = NOT_SENT;
    for (uint64_t i = 1; i < PGQRS_TALLY_SENT && i <= o->number; i++) {
        const struct pgqrs_tally_sent *sent = sent_of(b, o->number - i, o);
        if (sent != NULL && sent->known != 0) {
            return COUNTED;
        }
        before = sent != NULL ? SENT : before;
    }
    return before;
}

/* Of one that a broker may have stored, the lease is gone when it did: that it is lost otherwise at
 * the same time is not to be expected. */
static bool is_stored(const struct tally_outcome *o, enum before before)
{
    return o->settled != PGQRS_SETTLED_REFUSED || before == SENT || o->unsure;
}

static void count_stored(struct pgqrs_queue_tally *q, const struct tally_outcome *o)
{
    static const enum pgqrs_tally_kind kinds[PGQRS_SETTLE_COUNT] = {
        [PGQRS_SETTLE_ARCHIVE] = PGQRS_TALLY_DONE,    [PGQRS_SETTLE_DELETE] = PGQRS_TALLY_DONE,
        [PGQRS_SETTLE_DEAD] = PGQRS_TALLY_FAILED,     [PGQRS_SETTLE_CANCEL] = PGQRS_TALLY_CANCELLED,
        [PGQRS_SETTLE_RETRY] = PGQRS_TALLY_RETRY,     [PGQRS_SETTLE_SNOOZE] = PGQRS_TALLY_SNOOZE,
        [PGQRS_SETTLE_RETURN] = PGQRS_TALLY_RETURNED,
    };
    pgqrs_count(&q->settled[kinds[o->how]], 1);
    if (o->times.ran_us >= 0) {
        pgqrs_histogram_add(&q->ran, PGQRS_HISTOGRAM_JOB, o->times.ran_us);
    }
    if (o->times.waited_us >= 0) {
        pgqrs_histogram_add(&q->waited, PGQRS_HISTOGRAM_JOB, o->times.waited_us);
    }
    if (o->freed) {
        pgqrs_count(&q->leases_freed[PGQRS_FREED_WORKER_ENDED], 1);
    }
}

void pgqrs_tally_settled(struct broker *b, const struct tally_outcome *o)
{
    struct pgqrs_queue_tally *q = pgqrs_tally_of(b, o->queue);
    struct pgqrs_tally_sent *sent = sent_of(b, o->number, o);
    enum before before = o->settled == PGQRS_SETTLED_YES ? NOT_SENT : look_back(b, o);
    if (before != COUNTED && is_stored(o, before)) {
        count_stored(q, o);
    } else if (before != COUNTED) {
        pgqrs_count(&q->leases_lost, 1);
    }
    if (sent != NULL) {
        sent->known = 1;
    }
}

/* ---- the store ---- */

/* What could not be told is told the next time. */
void pgqrs_tally_report(struct broker *b)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    const struct pgqrs_tally m = {
        .trouble_ms = b->trouble_told ? pgqrs_mono_ms() - b->trouble_since_ms + 1 : 0};
    if (m.trouble_ms > 0 || b->trouble_reported) {
        pgqrs_encode_tally(&out, &m);
        if (pgqrs_control_send(b->child->control, &out, &err) == 0) {
            b->trouble_reported = m.trouble_ms > 0;
        } else {
            pgqrs_log_debug("broker: how the store does is not reported: %s", err.text);
        }
    }
    pgqrs_buf_fini(&out);
}
