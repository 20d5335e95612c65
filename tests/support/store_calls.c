/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_calls.h"

#include <stdint.h>

static const struct pgqrs_enqueue items[] = {
    {.payload = {"{\"a\":1}", 7},
     .delay_ms = 11,
     .priority = -3,
     .unique_key = "key",
     .producer_worker_id = 12},
    {.payload = {"2", 1}, .at_us = INT64_C(1767225600000000)},
};
static const int64_t ids[] = {21, 22, 23};
static const bool flags[] = {true, false, true};
static const struct pgqrs_lease_ref refs[] = {{31, 32, 33}, {34, 35, 36}};
static const struct pgqrs_follow_up follow_ups[] = {
    {.queue = "next", .item = {.payload = {"[]", 2}, .delay_ms = 41, .priority = 42}}};
static struct pgqrs_settlement settlements[] = {
    {.message_id = 51,
     .worker_id = 52,
     .attempt = 53,
     .how = PGQRS_SETTLE_RETRY,
     .crashed = true,
     .delay_ms = 54,
     .error = {"why", 3}},
    {.message_id = 55,
     .worker_id = 56,
     .attempt = 57,
     .how = PGQRS_SETTLE_ARCHIVE,
     .result = {"7", 1},
     .follow_ups = follow_ups,
     .follow_up_count = 1},
};
static const struct pgqrs_want wants[] = {
    {.queue_id = 61, .worker_id = 62, .count = 63, .max_attempts = 64, .lease_ms = 65}};

static const struct pgqrs_store_call calls[PGQRS_STORE_OP_COUNT] = {
    [PGQRS_STORE_QUEUE_CREATE] = {.u.name = "mail"},
    [PGQRS_STORE_QUEUE_FIND] = {.u.name = "mail"},
    [PGQRS_STORE_QUEUE_DELETE] = {.u.id = 71},
    [PGQRS_STORE_MESSAGE_GET] = {.u.id = 71},
    [PGQRS_STORE_WORKER_DELETE] = {.u.id = 71},
    [PGQRS_STORE_QUEUE_LIST] = {.u.queue_list = {.after_id = 72, .limit = 73}},
    [PGQRS_STORE_QUEUE_PAUSE] = {.u.pause = {.queue_id = 74, .paused = true}},
    [PGQRS_STORE_QUEUE_PURGE] = {.u.queue_purge = {.queue_id = 75,
                                                   .what = PGQRS_PURGE_PENDING,
                                                   .limit = 76}},
    [PGQRS_STORE_QUEUE_METRICS] = {.u.metrics = {.queue_id = 77, .count_max = 78}},
    [PGQRS_STORE_ENQUEUE] = {.u.enqueue = {.queue_id = 79, .items = items, .count = 2}},
    [PGQRS_STORE_MESSAGE_LIST] = {.u.messages = {.queue_id = 80,
                                                 .state = PGQRS_STATE_ARCHIVED,
                                                 .outcome = "failed",
                                                 .consumer_worker_id = 81,
                                                 .unique_key = "key",
                                                 .before_id = 82,
                                                 .limit = 83}},
    [PGQRS_STORE_MESSAGE_ACT] = {.u.act = {.act = PGQRS_ACT_REPLAY, .ids = ids, .count = 3}},
    [PGQRS_STORE_PRUNE] = {.u.prune = {84, PGQRS_PRUNE_FAILED, 85, 86, 87, 88}},
    [PGQRS_STORE_BURY] = {.u.bury = {.queue_id = 89, .max_attempts = 90}},
    [PGQRS_STORE_REAP] = {.u.reap = {91, 92, true, 93}},
    [PGQRS_STORE_WORKER_REGISTER] = {.u.worker = {"w", 94, "run", 95, 96, 97}},
    [PGQRS_STORE_WORKER_BEAT] = {.u.beat = {.ids = ids, .count = 3}},
    [PGQRS_STORE_WORKER_END] = {.u.end = {.worker_id = 98,
                                          .release = {true, true, 99, 100, "gone"}}},
    [PGQRS_STORE_WORKER_RECONCILE] = {.u.reconcile = {.worker_id = 100, .known = refs, .count = 2}},
    [PGQRS_STORE_WORKER_LIST] = {.u.workers = {101, 102, PGQRS_WORKER_POLLING, "w", true, true, 103,
                                               104}},
    [PGQRS_STORE_WORKER_MOVE] = {.u.move = {.worker_id = 105, .move = PGQRS_MOVE_STOP}},
    [PGQRS_STORE_WORKER_PURGE] = {.u.worker_purge = {.older_ms = 106, .limit = 107}},
    [PGQRS_STORE_WORKER_STATS] = {.u.stats = {.queue_id = 108, .stale_ms = 109}},
    [PGQRS_STORE_EXCHANGE] = {.u.exchange = {.settlements = settlements,
                                             .settlement_count = 2,
                                             .wants = wants,
                                             .want_count = 1}},
    [PGQRS_STORE_RENEW] = {.u.renew = {.leases = refs, .count = 2, .lease_ms = 110}},
    [PGQRS_STORE_WORKER_ORDERS] =
        {.u.orders = {.ids = ids, .count = 3, .beat = true, .cancel_max = 111}},
    [PGQRS_STORE_WORKFLOW_CREATE] = {.u.name = "mail"},
    [PGQRS_STORE_WORKFLOW_LIST] = {.u.queue_list = {.after_id = 112, .limit = 113}},
    [PGQRS_STORE_WORKFLOW_FIND] = {.u.name = "mail"},
    [PGQRS_STORE_RUN_GET] = {.u.id = 71},
    [PGQRS_STORE_RUN_LIST] = {.u.runs = {114, PGQRS_RUN_PAUSED, 115, 116, 117}},
    [PGQRS_STORE_RUN_STEPS] = {.u.id = 71},
    [PGQRS_STORE_RUN_STATE] = {.u.id = 71},
    [PGQRS_STORE_RUN_EVENTS] = {.u.id = 71},
    [PGQRS_STORE_RUN_CANCEL] = {.u.id = 71},
    [PGQRS_STORE_RUN_RESUME] = {.u.id = 71},
    [PGQRS_STORE_RUN_FORK] = {.u.fork = {118, "pack", {"[1]", 3}}},
    [PGQRS_STORE_EVENT_SEND] = {.u.event = {119, "approved", {"true", 4}}},
    [PGQRS_STORE_SCHEDULE_CREATE] = {.u.schedule = {.name = "nightly",
                                                    .queue = "mail",
                                                    .cron = "@daily",
                                                    .zone = "Europe/Berlin",
                                                    .payload = {"{}", 2},
                                                    .priority = -120,
                                                    .catch_up = PGQRS_CATCH_UP_ALL,
                                                    .overlap = PGQRS_OVERLAP_SKIP,
                                                    .pause = PGQRS_SCHEDULE_PAUSE}},
    [PGQRS_STORE_SCHEDULE_LIST] = {.u.schedules = {"monthly", 121}},
    [PGQRS_STORE_SCHEDULE_FIND] = {.u.name = "nightly"},
    [PGQRS_STORE_SCHEDULE_PAUSE] = {.u.schedule_pause = {"nightly", true}},
    [PGQRS_STORE_SCHEDULE_DELETE] = {.u.name = "nightly"},
};

struct pgqrs_store_call store_call_example(enum pgqrs_store_op op)
{
    struct pgqrs_store_call call = calls[op];
    call.op = op;
    call.number = UINT64_C(0x0102030405060708);
    return call;
}

/* ---- replies ---- */

static char name[] = "mail";
static char payload[] = "{\"a\":1}";
static char key[] = "key";
static char outcome[] = "failed";
static char result[] = "7";
static char error[] = "why";
static struct pgqrs_queue queues[] = {{201, name, 202, 203}, {204, key, 205, 0}};
static struct pgqrs_message messages[] = {
    {.id = 211,
     .queue_id = 212,
     .state = PGQRS_STATE_ARCHIVED,
     .enqueued_at_us = 213,
     .vt_us = 214,
     .dequeued_at_us = 215,
     .archived_at_us = 216,
     .consumer_worker_id = 217,
     .producer_worker_id = 218,
     .read_ct = 219,
     .priority = -220,
     .crash_ct = 221,
     .payload = payload,
     .unique_key = key,
     .outcome = outcome,
     .result = result,
     .error = error},
    {.id = 222, .payload = result},
};
static struct pgqrs_worker_info workers[] = {
    {231, 232, PGQRS_WORKER_SUSPENDED, 233, 234, 235, 236, 237, 238, name, key},
    {.id = 239, .name = key},
};
static const enum pgqrs_acted acted[] = {PGQRS_ACTED_YES, PGQRS_ACTED_KEY};
static const enum pgqrs_worker_state states[] = {PGQRS_WORKER_NONE, PGQRS_WORKER_STOPPED};
static const enum pgqrs_settled settled[] = {PGQRS_SETTLED_BEFORE, PGQRS_SETTLED_REFUSED};
static const struct pgqrs_lease leases[] = {
    {1, 241, 242, -243, 249, 244, 251, {"{}", 2}},
    {0, 245, 246, 247, 250, 248, -1, {"\"x\"", 3}},
};

static struct pgqrs_workflow workflows[] = {{301, 302, name, 303}, {304, 305, key, 306}};
static struct pgqrs_run runs[] = {
    {.id = 311,
     .message_id = 312,
     .workflow_id = 313,
     .parent_id = 314,
     .worker_id = 315,
     .status = PGQRS_RUN_CANCELLED,
     .workflow = name,
     .input = payload,
     .output = result,
     .error = error,
     .created_at_us = 316,
     .updated_at_us = 317,
     .started_at_us = 318,
     .paused_at_us = 319,
     .completed_at_us = 320,
     .due_at_us = 321},
    {.id = 322, .workflow = key},
};
static struct pgqrs_step steps[] = {
    {name, PGQRS_STEP_CLEANUP, PGQRS_STEP_ERROR, result, error, 331, 332, 333, 334},
    {.name = key},
};
static struct pgqrs_pair pairs[] = {{name, payload, 341}, {key, result, 342}};

static struct pgqrs_schedule schedules[] = {
    {351, name, key, 352, outcome, error, payload, -353, PGQRS_CATCH_UP_ONCE, PGQRS_OVERLAP_SKIP,
     result, 354, 355, 356, true, 357, 358},
    {361, key, name, 362, error, outcome, result, 363, PGQRS_CATCH_UP_ALL, PGQRS_OVERLAP_ALLOW,
     NULL, 364, 0, 366, false, 0, 0},
};

static const struct pgqrs_store_reply replies[PGQRS_STORE_OP_COUNT] = {
    [PGQRS_STORE_QUEUE_CREATE] = {.u.id = 252},
    [PGQRS_STORE_QUEUE_FIND] = {.u.id = 252},
    [PGQRS_STORE_WORKER_REGISTER] = {.u.id = 252},
    [PGQRS_STORE_QUEUE_LIST] = {.u.queues = {queues, 2}},
    [PGQRS_STORE_QUEUE_METRICS] = {.u.metrics = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
    [PGQRS_STORE_ENQUEUE] = {.u.enqueued = {.ids = ids, .existed = flags, .count = 3}},
    [PGQRS_STORE_MESSAGE_LIST] = {.u.messages = {messages, 2, 253}},
    [PGQRS_STORE_MESSAGE_ACT] = {.u.acted = {.items = acted, .count = 2}},
    [PGQRS_STORE_PRUNE] = {.u.prune = {.from_us = 254, .from_id = 255}},
    [PGQRS_STORE_WORKER_LIST] = {.u.workers = {workers, 2, 256}},
    [PGQRS_STORE_WORKER_STATS] = {.u.stats = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
    [PGQRS_STORE_INFO] = {.u.info = {1, 2, 3, 4, "0.5.0", "SQLite 3"}},
    [PGQRS_STORE_EXCHANGE] = {.u.exchange = {.settled = settled,
                                             .settled_count = 2,
                                             .leases = leases,
                                             .lease_count = 2,
                                             .next_due_us = 257,
                                             .now_us = 258}},
    [PGQRS_STORE_RENEW] = {.u.renewed = {.held = flags, .count = 3}},
    [PGQRS_STORE_WORKER_ORDERS] =
        {.u.orders = {.states = states, .state_count = 2, .cancels = refs, .cancel_count = 2}},
    [PGQRS_STORE_WORKFLOW_CREATE] = {.u.workflow = {343, true}},
    [PGQRS_STORE_WORKFLOW_LIST] = {.u.workflows = {workflows, 2}},
    [PGQRS_STORE_WORKFLOW_FIND] = {.u.workflows = {workflows, 1}},
    [PGQRS_STORE_RUN_GET] = {.u.runs = {runs, 1, 0}},
    [PGQRS_STORE_RUN_LIST] = {.u.runs = {runs, 2, 344}},
    [PGQRS_STORE_RUN_STEPS] = {.u.steps = {steps, 2}},
    [PGQRS_STORE_RUN_STATE] = {.u.pairs = {pairs, 2}},
    [PGQRS_STORE_RUN_EVENTS] = {.u.pairs = {pairs, 1}},
    [PGQRS_STORE_RUN_CANCEL] = {.u.status = PGQRS_RUN_CANCELLING},
    [PGQRS_STORE_RUN_RESUME] = {.u.flag = true},
    [PGQRS_STORE_RUN_FORK] = {.u.id = 252},
    [PGQRS_STORE_EVENT_SEND] = {.u.flag = true},
    [PGQRS_STORE_SCHEDULE_CREATE] = {.u.id = 252},
    [PGQRS_STORE_SCHEDULE_LIST] = {.u.schedules = {schedules, 2, 371}},
    [PGQRS_STORE_SCHEDULE_FIND] = {.u.schedules = {schedules, 1, 372}},
};

struct pgqrs_store_reply store_reply_example(enum pgqrs_store_op op)
{
    struct pgqrs_store_reply reply = replies[op];
    reply.op = op;
    reply.number = UINT64_C(0xf102030405060708);
    reply.rc = 251;
    if (op == PGQRS_STORE_MESSAGE_GET) {
        reply.u.message = messages[0];
    }
    return reply;
}
