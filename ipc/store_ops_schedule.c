/* SPDX-License-Identifier: Apache-2.0 */
/* What is in the calls about schedules and in their replies. */
#include "ipc/store_wire.h"

#define SCHEDULE_MIN 68

void pgqrs_wire_call_schedule(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    struct pgqrs_schedule_put *v = &m->u.schedule;
    v->name = pgqrs_wire_text(w, v->name);
    v->queue = pgqrs_wire_text(w, v->queue);
    v->cron = pgqrs_wire_text(w, v->cron);
    v->zone = pgqrs_wire_text(w, v->zone);
    v->payload = pgqrs_wire_bytes(w, v->payload);
    v->priority = pgqrs_wire_i32(w, v->priority);
    v->catch_up = pgqrs_wire_enum(w, v->catch_up, PGQRS_CATCH_UP_COUNT);
    v->overlap = pgqrs_wire_enum(w, v->overlap, PGQRS_OVERLAP_COUNT);
    v->pause = pgqrs_wire_enum(w, v->pause, PGQRS_SCHEDULE_PAUSE_COUNT);
}

void pgqrs_wire_call_schedules(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.schedules.after = pgqrs_wire_maybe(w, m->u.schedules.after);
    m->u.schedules.limit = pgqrs_wire_u32(w, m->u.schedules.limit);
}

void pgqrs_wire_call_schedule_pause(struct pgqrs_wire *w, struct pgqrs_store_call *m)
{
    m->u.schedule_pause.name = pgqrs_wire_text(w, m->u.schedule_pause.name);
    m->u.schedule_pause.paused = pgqrs_wire_flag(w, m->u.schedule_pause.paused);
}

static void wire_schedule(struct pgqrs_wire *w, struct pgqrs_schedule *m)
{
    m->id = pgqrs_wire_i64(w, m->id);
    m->name = pgqrs_wire_own(w, m->name);
    m->queue = pgqrs_wire_own(w, m->queue);
    m->queue_id = pgqrs_wire_i64(w, m->queue_id);
    m->cron = pgqrs_wire_own(w, m->cron);
    m->zone = pgqrs_wire_own(w, m->zone);
    m->payload = pgqrs_wire_own(w, m->payload);
    m->priority = pgqrs_wire_i32(w, m->priority);
    m->catch_up = pgqrs_wire_enum(w, m->catch_up, PGQRS_CATCH_UP_COUNT);
    m->overlap = pgqrs_wire_enum(w, m->overlap, PGQRS_OVERLAP_COUNT);
    m->config = pgqrs_wire_own(w, m->config);
    m->created_at_us = pgqrs_wire_i64(w, m->created_at_us);
    m->paused_at_us = pgqrs_wire_i64(w, m->paused_at_us);
    m->next_at_us = pgqrs_wire_i64(w, m->next_at_us);
    m->planned = pgqrs_wire_flag(w, m->planned);
    m->last_at_us = pgqrs_wire_i64(w, m->last_at_us);
    m->last_message_id = pgqrs_wire_i64(w, m->last_message_id);
    if (m->name == NULL || m->queue == NULL || m->cron == NULL || m->zone == NULL ||
        m->payload == NULL) {
        pgqrs_wire_fail(w, "a schedule has no name, queue, expression, zone or payload");
    }
}

void pgqrs_wire_reply_schedules(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    struct pgqrs_schedule_list *list = &m->u.schedules;
    struct pgqrs_schedule *read = pgqrs_wire_own_list(w, &list->count, SCHEDULE_MIN, sizeof *read);
    list->items = pgqrs_wire_reads(w) ? read : list->items;
    for (size_t i = 0; i < list->count && !w->failed; i++) {
        wire_schedule(w, &list->items[i]);
    }
    list->now_us = pgqrs_wire_i64(w, list->now_us);
}

void pgqrs_wire_fini_schedules(struct pgqrs_store_reply *m)
{
    pgqrs_schedule_list_fini(&m->u.schedules);
}
