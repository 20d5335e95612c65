/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

/*
 * Every statement that is prepared once and kept. The hot ones name their index: statistics that
 * somebody's ANALYZE left behind must not turn a seek into a walk over the backlog.
 */

#define PENDING "archived_at IS NULL AND consumer_worker_id IS NULL"
/* The three that fence, and that the message has not ended. */
#define FENCE "id = ?1 AND consumer_worker_id = ?2 AND read_ct = ?3 AND archived_at IS NULL"
#define FAILURE "pgqrsd_error = coalesce(?4, pgqrsd_error), pgqrsd_crash_ct = pgqrsd_crash_ct + ?5"

/* Somebody else's row may hold no count, or one that is no count. */
#define NEXT_READ_CT "max(coalesce(read_ct, 0), 0) + 1"

/* A worker that takes jobs, and its queue, unless that is paused. */
#define MAY_LEASE(worker, queue)                                                                   \
    "pgqrs_workers w CROSS JOIN pgqrs_queues q WHERE w.id = " worker                               \
    " AND w.status IN ('ready', 'polling') AND q.id = " queue " AND q.pgqrsd_paused_at IS NULL"

static const char *const texts[] = {
    [STMT_BEGIN] = "BEGIN IMMEDIATE",
    [STMT_COMMIT] = "COMMIT",
    [STMT_ROLLBACK] = "ROLLBACK",
    [STMT_DATA_VERSION] = "PRAGMA data_version",

    [STMT_QUEUE_CREATE] = "INSERT INTO pgqrs_queues (queue_name, created_at) VALUES (?1, ?2)",
    [STMT_QUEUE_FIND] = "SELECT id FROM pgqrs_queues WHERE queue_name = ?1",
    [STMT_QUEUE_LIST] = "SELECT id, queue_name, created_at, pgqrsd_paused_at FROM pgqrs_queues"
                        " WHERE id > ?1 ORDER BY id LIMIT ?2",
    [STMT_QUEUE_EXISTS] = "SELECT 1 FROM pgqrs_queues WHERE id = ?1",
    [STMT_METRICS_LIVE] = "SELECT count(*), max(enqueued_at) FROM pgqrs_messages"
                          " WHERE queue_id = ?1 AND archived_at IS NULL",
    [STMT_METRICS_PENDING] = "SELECT count(*), count(CASE WHEN vt <= ?2 THEN 1 END),"
                             " min(enqueued_at) FROM pgqrs_messages"
                             " WHERE queue_id = ?1 AND " PENDING,
    [STMT_METRICS_ARCHIVED] = "SELECT count(*) FROM pgqrs_messages"
                              " WHERE queue_id = ?1 AND archived_at IS NOT NULL",
    [STMT_METRICS_FAILED] = "SELECT count(*) FROM pgqrs_messages"
                            " WHERE queue_id = ?1 AND pgqrsd_outcome = 'failed'",
    [STMT_METRICS_NEWEST_ARCHIVED] =
        "SELECT max(enqueued_at) FROM (SELECT enqueued_at FROM pgqrs_messages"
        " WHERE queue_id = ?1 AND archived_at IS NOT NULL ORDER BY archived_at DESC LIMIT 1000)",

    [STMT_ENQUEUE] = "INSERT INTO pgqrs_messages"
                     " (queue_id, payload, vt, enqueued_at, read_ct, pgqrsd_priority,"
                     " producer_worker_id, pgqrsd_unique_key)"
                     " VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7)",
    [STMT_KEY_HOLDER] = "SELECT id FROM pgqrs_messages INDEXED BY pgqrsd_messages_unique"
                        " WHERE queue_id = ?1 AND pgqrsd_unique_key = ?2 AND archived_at IS NULL",
    [STMT_MESSAGE_GET] =
        "SELECT " PGQRS_SQLITE_MESSAGE_COLUMNS " FROM pgqrs_messages WHERE id = ?1",

    [STMT_WORKER_EXISTS] = "SELECT 1 FROM pgqrs_workers WHERE id = ?1",
    [STMT_MAY_LEASE] = "SELECT 1 FROM " MAY_LEASE("?1", "?2"),
    [STMT_WORKER_FIND] = "SELECT id, status, pgqrsd_instance, pgqrsd_generation"
                         " FROM pgqrs_workers WHERE name = ?1",
    [STMT_WORKER_INSERT] = "INSERT INTO pgqrs_workers (queue_id, name, started_at, heartbeat_at,"
                           " status, pgqrsd_instance, pgqrsd_generation, pgqrsd_pid)"
                           " VALUES (?1, ?2, ?3, ?3, 'ready', ?4, ?5, ?6)",
    [STMT_WORKER_TAKE] = "UPDATE pgqrs_workers SET queue_id = ?1, started_at = ?3,"
                         " heartbeat_at = ?3, shutdown_at = NULL, status = 'ready',"
                         " pgqrsd_instance = ?4, pgqrsd_generation = ?5, pgqrsd_pid = ?6"
                         " WHERE name = ?2",
    [STMT_WORKER_BEAT] = "UPDATE pgqrs_workers SET heartbeat_at = ?2 WHERE id = ?1",
    [STMT_WORKER_STOP] = "UPDATE pgqrs_workers SET status = 'stopped', shutdown_at = ?2"
                         " WHERE id = ?1",
    [STMT_WORKER_LIVE] = "SELECT id, coalesce(queue_id, 0), pgqrsd_generation, pgqrsd_instance,"
                         " name FROM pgqrs_workers"
                         " WHERE pgqrsd_instance IS NOT NULL AND status <> 'stopped' ORDER BY id",
    [STMT_WORKER_HELD] = "SELECT id, read_ct FROM pgqrs_messages"
                         " INDEXED BY idx_messages_consumer_active"
                         " WHERE consumer_worker_id = ?1 AND archived_at IS NULL",
    [STMT_WORKER_FIRST] = "SELECT id, read_ct FROM pgqrs_messages"
                          " INDEXED BY idx_messages_consumer_active"
                          " WHERE consumer_worker_id = ?1 AND archived_at IS NULL"
                          " ORDER BY pgqrsd_priority DESC, pgqrsd_due_at, id LIMIT 1",
    [STMT_WORKER_FREE] = "UPDATE pgqrs_messages INDEXED BY idx_messages_consumer_active"
                         " SET consumer_worker_id = NULL, vt = coalesce(pgqrsd_due_at, ?2),"
                         " read_ct = max(read_ct - 1, 0)"
                         " WHERE consumer_worker_id = ?1 AND archived_at IS NULL",

    [STMT_SETTLE_END] = "UPDATE pgqrs_messages SET archived_at = ?6, pgqrsd_outcome = ?7,"
                        " pgqrsd_result = ?8, " FAILURE " WHERE " FENCE,
    [STMT_SETTLE_DELETE] = "DELETE FROM pgqrs_messages WHERE " FENCE
                           " AND NOT EXISTS (SELECT 1 FROM pgqrs_workflow_runs"
                           " WHERE message_id = ?1)",
    [STMT_SETTLE_RELEASE] =
        "UPDATE pgqrs_messages SET consumer_worker_id = NULL,"
        " vt = coalesce(?6, pgqrsd_due_at, ?7), read_ct = read_ct - ?8, " FAILURE " WHERE " FENCE,
    [STMT_SETTLE_LOOK] = "SELECT consumer_worker_id = ?2 AND read_ct = ?3"
                         " AND archived_at IS NOT NULL FROM pgqrs_messages WHERE id = ?1",
    [STMT_RENEW] = "UPDATE pgqrs_messages SET vt = ?4 WHERE " FENCE,

    [STMT_LEVEL] = "SELECT pgqrsd_priority, vt FROM pgqrs_messages INDEXED BY pgqrsd_messages_lease"
                   " WHERE queue_id = ?1 AND pgqrsd_priority < ?2 AND " PENDING
                   " ORDER BY pgqrsd_priority DESC, vt LIMIT 1",
    [STMT_LEASABLE] = "SELECT 1 FROM (SELECT 1 FROM " MAY_LEASE(
        "?4", "?1") ")"
                    " CROSS JOIN pgqrs_messages INDEXED BY pgqrsd_messages_lease"
                    " WHERE queue_id = ?1 AND pgqrsd_priority = ?2 AND " PENDING
                    " AND vt <= ?3 AND coalesce(read_ct, 0) < ?6 LIMIT 1",
    [STMT_PICK] = "SELECT id, " NEXT_READ_CT ", enqueued_at, payload FROM pgqrs_messages"
                  " INDEXED BY pgqrsd_messages_lease"
                  " WHERE queue_id = ?1 AND pgqrsd_priority = ?2 AND " PENDING
                  " AND vt <= ?3 AND coalesce(read_ct, 0) < ?6 ORDER BY vt, id LIMIT ?7",
    [STMT_TAKE] =
        "UPDATE pgqrs_messages SET pgqrsd_due_at = vt, vt = ?2, read_ct = " NEXT_READ_CT ","
        " consumer_worker_id = ?3, dequeued_at = coalesce(dequeued_at, ?4) WHERE id = ?1",
    [STMT_LATER] = "SELECT vt FROM pgqrs_messages INDEXED BY pgqrsd_messages_lease"
                   " WHERE queue_id = ?1 AND pgqrsd_priority = ?2 AND " PENDING
                   " AND vt > ?3 ORDER BY vt LIMIT 1",
    [STMT_REPAIR_VT] =
        "UPDATE pgqrs_messages INDEXED BY pgqrsd_messages_lease SET vt = ?3"
        " WHERE queue_id = ?1 AND pgqrsd_priority = ?2 AND " PENDING " AND vt IS NULL",
};
_Static_assert(sizeof texts / sizeof *texts == STMT_COUNT, "every statement has its text");

const char *pgqrs_sqlite_sql(enum sqlite_stmt_id id)
{
    return texts[id];
}
