/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what is stored, and tells pgqrsd with each beat. */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "ipc/child.h"

void pgqrs_tally_add(struct broker_queue *queue, enum pgqrs_settle how)
{
    static const enum pgqrs_tally_kind kinds[PGQRS_SETTLE_COUNT] = {
        [PGQRS_SETTLE_ARCHIVE] = PGQRS_TALLY_DONE,    [PGQRS_SETTLE_DELETE] = PGQRS_TALLY_DONE,
        [PGQRS_SETTLE_DEAD] = PGQRS_TALLY_FAILED,     [PGQRS_SETTLE_CANCEL] = PGQRS_TALLY_CANCELLED,
        [PGQRS_SETTLE_RETRY] = PGQRS_TALLY_RETRY,     [PGQRS_SETTLE_SNOOZE] = PGQRS_TALLY_SNOOZE,
        [PGQRS_SETTLE_RETURN] = PGQRS_TALLY_RETURNED,
    };
    queue->settled[kinds[how]]++;
    queue->tallied = true;
}

static size_t collect(const struct broker *b, struct pgqrs_queue_tally *out)
{
    size_t n = 0;
    for (size_t i = 0; i < b->queue_count; i++) {
        const struct broker_queue *queue = &b->queues[i];
        if (queue->tallied) {
            out[n].queue = queue->settings.name;
            memcpy(out[n].settled, queue->settled, sizeof queue->settled);
            n++;
        }
    }
    return n;
}

static void clear(struct broker *b)
{
    for (size_t i = 0; i < b->queue_count; i++) {
        memset(b->queues[i].settled, 0, sizeof b->queues[i].settled);
        b->queues[i].tallied = false;
    }
}

/* What could not be told is told the next time. */
void pgqrs_tally_report(struct broker *b)
{
    struct pgqrs_buf out = {0};
    struct pgqrs_error err;
    struct pgqrs_tally m = {.queues = calloc(b->queue_count + 1, sizeof *m.queues)};
    if (m.queues == NULL) {
        return;
    }
    m.queue_count = collect(b, m.queues);
    m.trouble_ms = b->trouble_told ? pgqrs_mono_ms() - b->trouble_since_ms + 1 : 0;
    if (m.queue_count > 0 || m.trouble_ms > 0 || b->trouble_reported) {
        pgqrs_encode_tally(&out, &m);
        if (pgqrs_control_send(b->child->control, &out, &err) == 0) {
            clear(b);
            b->trouble_reported = m.trouble_ms > 0;
        } else {
            pgqrs_log_debug("broker: what is settled is not reported: %s", err.text);
        }
    }
    pgqrs_buf_fini(&out);
    free(m.queues);
}
