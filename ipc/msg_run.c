/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/msg.h"

#include <string.h>

static const char *const names[PGQRS_ISOLATED_COUNT] = {
    [PGQRS_ISOLATED_NONE] = "none",           [PGQRS_ISOLATED_REFUSED] = "refused",
    [PGQRS_ISOLATED_DONE] = "done",           [PGQRS_ISOLATED_RETRIED] = "retried",
    [PGQRS_ISOLATED_SNOOZED] = "snoozed",     [PGQRS_ISOLATED_FAILED] = "failed",
    [PGQRS_ISOLATED_CANCELLED] = "cancelled", [PGQRS_ISOLATED_RETURNED] = "returned",
    [PGQRS_ISOLATED_LOST] = "lost",           [PGQRS_RUN_NOT_RUN] = "not_run",
};

const char *pgqrs_run_outcome_name(enum pgqrs_run_outcome outcome)
{
    return names[outcome];
}

void pgqrs_encode_run_ended(struct pgqrs_buf *out, const struct pgqrs_run_ended *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_RUN_ENDED);
    pgqrs_buf_put_u64(out, m->generation);
    pgqrs_buf_put_u8(out, (uint8_t)m->outcome);
    const struct pgqrs_bytes text = {.data = m->text,
                                     .len = strnlen(m->text, PGQRS_ERROR_TEXT_MAX)};
    pgqrs_buf_put_bytes(out, text);
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_run_ended(const struct pgqrs_frame *f, struct pgqrs_run_ended *m,
                           struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    m->generation = pgqrs_read_u64(&r);
    uint8_t outcome = pgqrs_read_u8(&r);
    m->text = pgqrs_read_text(&r, PGQRS_ERROR_TEXT_MAX);
    if (!pgqrs_reader_done(&r) || outcome == PGQRS_ISOLATED_NONE ||
        outcome >= PGQRS_ISOLATED_COUNT) {
        return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "malformed message %s",
                               pgqrs_msg_descs[f->type].name);
    }
    m->outcome = (enum pgqrs_run_outcome)outcome;
    return 0;
}
