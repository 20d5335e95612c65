/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_STORE_WIRE_H
#define PGQRS_IPC_STORE_WIRE_H

/*
 * One description of a message that both writes and reads it. Every function takes the value to
 * write and returns it, or, when reading, returns the one that was read; the same bounds hold both
 * ways. A wire that failed remembers it and turns every further call into a no-op.
 */

#include "base/bytes.h"
#include "ipc/store_msg.h"

struct pgqrs_wire {
    struct pgqrs_buf *out; /* null: reading */
    size_t limit;          /* writing: out may grow to here */
    struct pgqrs_reader in;
    struct pgqrs_wire_block **blocks; /* reading: what it allocates */
    bool failed;
    char why[128]; /* writing: what is out of bounds */
};

bool pgqrs_wire_reads(const struct pgqrs_wire *w);
void pgqrs_wire_fail(struct pgqrs_wire *w, const char *fmt, ...) PGQRS_PRINTF(2, 3);

int64_t pgqrs_wire_i64(struct pgqrs_wire *w, int64_t v);
uint64_t pgqrs_wire_u64(struct pgqrs_wire *w, uint64_t v);
int32_t pgqrs_wire_i32(struct pgqrs_wire *w, int32_t v);
uint32_t pgqrs_wire_u32(struct pgqrs_wire *w, uint32_t v);
bool pgqrs_wire_flag(struct pgqrs_wire *w, bool v);
/* A number from 0 to count - 1, in a byte. */
unsigned pgqrs_wire_enum(struct pgqrs_wire *w, unsigned v, unsigned count);
struct pgqrs_bytes pgqrs_wire_bytes(struct pgqrs_wire *w, struct pgqrs_bytes v);
const char *pgqrs_wire_text(struct pgqrs_wire *w, const char *v); /* not null */
const char *pgqrs_wire_maybe(struct pgqrs_wire *w, const char *v);
/* Like pgqrs_wire_maybe, of any length; what is read is allocated and the caller's. */
char *pgqrs_wire_own(struct pgqrs_wire *w, char *v);

/*
 * A list's count. Reading: room for that many items, which take at least min_size bytes each on the
 * wire, so that a count can not make us allocate more than a fixed multiple of what was sent. Null
 * when writing, when the list is empty, and on failure, with *count 0 then.
 */
void *pgqrs_wire_list(struct pgqrs_wire *w, size_t *count, size_t max_count, size_t min_size,
                      size_t item_size);
/* The same with at most PGQRS_STORE_LIST_MAX items, and the room is the caller's. */
void *pgqrs_wire_own_list(struct pgqrs_wire *w, size_t *count, size_t min_size, size_t item_size);
/* The same with another limit. */
void *pgqrs_wire_own_list_of(struct pgqrs_wire *w, size_t *count, size_t max_count, size_t min_size,
                             size_t item_size);

void pgqrs_wire_blocks_fini(struct pgqrs_wire_block **blocks);

/* store_ops_workflow.c */
void pgqrs_wire_call_runs(struct pgqrs_wire *w, struct pgqrs_store_call *m);
void pgqrs_wire_call_fork(struct pgqrs_wire *w, struct pgqrs_store_call *m);
void pgqrs_wire_call_event(struct pgqrs_wire *w, struct pgqrs_store_call *m);
void pgqrs_wire_reply_workflow(struct pgqrs_wire *w, struct pgqrs_store_reply *m);
void pgqrs_wire_reply_workflows(struct pgqrs_wire *w, struct pgqrs_store_reply *m);
void pgqrs_wire_fini_workflows(struct pgqrs_store_reply *m);
void pgqrs_wire_reply_runs(struct pgqrs_wire *w, struct pgqrs_store_reply *m);
void pgqrs_wire_fini_runs(struct pgqrs_store_reply *m);
void pgqrs_wire_reply_steps(struct pgqrs_wire *w, struct pgqrs_store_reply *m);
void pgqrs_wire_fini_steps(struct pgqrs_store_reply *m);
void pgqrs_wire_reply_pairs(struct pgqrs_wire *w, struct pgqrs_store_reply *m);
void pgqrs_wire_fini_pairs(struct pgqrs_store_reply *m);
void pgqrs_wire_reply_status(struct pgqrs_wire *w, struct pgqrs_store_reply *m);
void pgqrs_wire_reply_flag(struct pgqrs_wire *w, struct pgqrs_store_reply *m);

/* store_ops_schedule.c */
void pgqrs_wire_call_schedule(struct pgqrs_wire *w, struct pgqrs_store_call *m);
void pgqrs_wire_call_schedules(struct pgqrs_wire *w, struct pgqrs_store_call *m);
void pgqrs_wire_call_schedule_pause(struct pgqrs_wire *w, struct pgqrs_store_call *m);
void pgqrs_wire_reply_schedules(struct pgqrs_wire *w, struct pgqrs_store_reply *m);
void pgqrs_wire_fini_schedules(struct pgqrs_store_reply *m);

/* store_ops.c: one row an operation. */
struct pgqrs_store_op_desc {
    const char *name;
    bool changes;
    void (*call)(struct pgqrs_wire *w, struct pgqrs_store_call *m);
    void (*reply)(struct pgqrs_wire *w, struct pgqrs_store_reply *m);
    void (*reply_fini)(struct pgqrs_store_reply *m); /* null: it owns nothing */
};
extern const struct pgqrs_store_op_desc pgqrs_store_op_descs[PGQRS_STORE_OP_COUNT];

#endif
