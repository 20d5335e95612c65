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

struct pgqrs_store_call store_call_example(enum pgqrs_store_op op)
{
    struct pgqrs_store_call c = {.number = UINT64_C(0x0102030405060708), .op = op};
    switch (op) {
    case PGQRS_STORE_OP_NONE:
    case PGQRS_STORE_INSTALL:
    case PGQRS_STORE_VERIFY:
    case PGQRS_STORE_INFO:
    case PGQRS_STORE_OP_COUNT:
        break;
    case PGQRS_STORE_QUEUE_CREATE:
    case PGQRS_STORE_QUEUE_FIND:
        c.u.name = "mail";
        break;
    case PGQRS_STORE_QUEUE_DELETE:
    case PGQRS_STORE_MESSAGE_GET:
    case PGQRS_STORE_WORKER_DELETE:
        c.u.id = 71;
        break;
    case PGQRS_STORE_QUEUE_LIST:
        c.u.queue_list.after_id = 72;
        c.u.queue_list.limit = 73;
        break;
    case PGQRS_STORE_QUEUE_PAUSE:
        c.u.pause.queue_id = 74;
        c.u.pause.paused = true;
        break;
    case PGQRS_STORE_QUEUE_PURGE:
        c.u.queue_purge.queue_id = 75;
        c.u.queue_purge.what = PGQRS_PURGE_PENDING;
        c.u.queue_purge.limit = 76;
        break;
    case PGQRS_STORE_QUEUE_METRICS:
        c.u.metrics.queue_id = 77;
        c.u.metrics.count_max = 78;
        break;
    case PGQRS_STORE_ENQUEUE:
        c.u.enqueue.queue_id = 79;
        c.u.enqueue.items = items;
        c.u.enqueue.count = 2;
        break;
    case PGQRS_STORE_MESSAGE_LIST:
        c.u.messages = (struct pgqrs_message_filter){.queue_id = 80,
                                                     .state = PGQRS_STATE_ARCHIVED,
                                                     .outcome = "failed",
                                                     .consumer_worker_id = 81,
                                                     .unique_key = "key",
                                                     .before_id = 82,
                                                     .limit = 83};
        break;
    case PGQRS_STORE_MESSAGE_ACT:
        c.u.act.act = PGQRS_ACT_REPLAY;
        c.u.act.ids = ids;
        c.u.act.count = 3;
        break;
    case PGQRS_STORE_PRUNE:
        c.u.prune = (struct pgqrs_prune){84, PGQRS_PRUNE_FAILED, 85, 86, 87, 88};
        break;
    case PGQRS_STORE_BURY:
        c.u.bury.queue_id = 89;
        c.u.bury.max_attempts = 90;
        break;
    case PGQRS_STORE_REAP:
        c.u.reap = (struct pgqrs_reap){91, 92, true, 93};
        break;
    case PGQRS_STORE_WORKER_REGISTER:
        c.u.worker = (struct pgqrs_worker_row){"w", 94, "run", 95, 96, 97};
        break;
    case PGQRS_STORE_WORKER_BEAT:
        c.u.beat.ids = ids;
        c.u.beat.count = 3;
        break;
    case PGQRS_STORE_WORKER_END:
        c.u.end.worker_id = 98;
        c.u.end.release = (struct pgqrs_release){true, true, 99, "gone"};
        break;
    case PGQRS_STORE_WORKER_RECONCILE:
        c.u.reconcile.worker_id = 100;
        c.u.reconcile.known = refs;
        c.u.reconcile.count = 2;
        break;
    case PGQRS_STORE_WORKER_LIST:
        c.u.workers =
            (struct pgqrs_worker_filter){101, 102, PGQRS_WORKER_POLLING, "w", true, true, 103, 104};
        break;
    case PGQRS_STORE_WORKER_MOVE:
        c.u.move.worker_id = 105;
        c.u.move.move = PGQRS_MOVE_STOP;
        break;
    case PGQRS_STORE_WORKER_PURGE:
        c.u.worker_purge.older_ms = 106;
        c.u.worker_purge.limit = 107;
        break;
    case PGQRS_STORE_WORKER_STATS:
        c.u.stats.queue_id = 108;
        c.u.stats.stale_ms = 109;
        break;
    case PGQRS_STORE_EXCHANGE:
        c.u.exchange.settlements = settlements;
        c.u.exchange.settlement_count = 2;
        c.u.exchange.wants = wants;
        c.u.exchange.want_count = 1;
        break;
    case PGQRS_STORE_RENEW:
        c.u.renew.leases = refs;
        c.u.renew.count = 2;
        c.u.renew.lease_ms = 110;
        break;
    }
    return c;
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
static const enum pgqrs_settled settled[] = {PGQRS_SETTLED_BEFORE, PGQRS_SETTLED_REFUSED};
static const struct pgqrs_lease leases[] = {
    {1, 241, 242, -243, 244, {"{}", 2}},
    {0, 245, 246, 247, 248, {"\"x\"", 3}},
};

struct pgqrs_store_reply store_reply_example(enum pgqrs_store_op op)
{
    struct pgqrs_store_reply r = {.number = UINT64_C(0xf102030405060708), .op = op, .rc = 251};
    switch (op) {
    case PGQRS_STORE_QUEUE_CREATE:
    case PGQRS_STORE_QUEUE_FIND:
    case PGQRS_STORE_WORKER_REGISTER:
        r.u.id = 252;
        break;
    case PGQRS_STORE_QUEUE_LIST:
        r.u.queues = (struct pgqrs_queue_list){queues, 2};
        break;
    case PGQRS_STORE_QUEUE_METRICS:
        r.u.metrics = (struct pgqrs_queue_metrics){1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
        break;
    case PGQRS_STORE_ENQUEUE:
        r.u.enqueued.ids = ids;
        r.u.enqueued.existed = flags;
        r.u.enqueued.count = 3;
        break;
    case PGQRS_STORE_MESSAGE_GET:
        r.u.message = messages[0];
        break;
    case PGQRS_STORE_MESSAGE_LIST:
        r.u.messages = (struct pgqrs_message_list){messages, 2, 253};
        break;
    case PGQRS_STORE_MESSAGE_ACT:
        r.u.acted.items = acted;
        r.u.acted.count = 2;
        break;
    case PGQRS_STORE_PRUNE:
        r.u.prune.from_us = 254;
        r.u.prune.from_id = 255;
        break;
    case PGQRS_STORE_WORKER_LIST:
        r.u.workers = (struct pgqrs_worker_info_list){workers, 2, 256};
        break;
    case PGQRS_STORE_WORKER_STATS:
        r.u.stats = (struct pgqrs_worker_stats){1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
        break;
    case PGQRS_STORE_INFO:
        r.u.info = (struct pgqrs_store_info){1, 2, 3, 4, "0.5.0", "SQLite 3"};
        break;
    case PGQRS_STORE_EXCHANGE:
        r.u.exchange.settled = settled;
        r.u.exchange.settled_count = 2;
        r.u.exchange.leases = leases;
        r.u.exchange.lease_count = 2;
        r.u.exchange.next_due_us = 257;
        r.u.exchange.now_us = 258;
        break;
    case PGQRS_STORE_RENEW:
        r.u.renewed.held = flags;
        r.u.renewed.count = 3;
        break;
    default:
        break;
    }
    return r;
}
