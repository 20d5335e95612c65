/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_SCHEDULES_H
#define PGQRS_IPC_MSG_SCHEDULES_H

/* What the broker is told of the schedules in the configuration; a part of ipc/msg.h. */

#include "base/bytes.h"
#include "base/error.h"
#include "store/schedule.h"

#define PGQRS_SCHEDULES_MAX 1000
#define PGQRS_SCHEDULES_BYTES_MAX (768u * 1024) /* of their texts together; fits into a message */

struct pgqrs_schedule_settings {
    struct pgqrs_schedule_put put;
    uint8_t workflow; /* 1: its queue is a workflow's; the payload is wrapped already */
};

struct pgqrs_broker_schedules {
    const char *config; /* whose they are: the name of the pgqrsd */
    struct pgqrs_schedule_settings *items;
    size_t count;
};

struct pgqrs_frame;

void pgqrs_encode_broker_schedules(struct pgqrs_buf *out, const struct pgqrs_broker_schedules *m);
/* items: texts borrow from the frame; free it. */
int pgqrs_decode_broker_schedules(const struct pgqrs_frame *f, struct pgqrs_broker_schedules *m,
                                  struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
