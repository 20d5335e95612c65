/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_flow.h"

/*
 * Every statement that is prepared once and kept. The hot ones name their index: statistics that
 * somebody's ANALYZE left behind must not turn a seek into a walk over the backlog.
 */

#define PENDING "archived_at IS NULL AND consumer_worker_id IS NULL"
#define LEASED "archived_at IS NULL AND consumer_worker_id IS NOT NULL"
#define READY(vt) "queue_id = ?1" vt " AND " PENDING
#define COUNTED(index, rows)                                                                       \
    "(SELECT count(*) FROM (SELECT 1 FROM pgqrs_messages INDEXED BY " index " WHERE " rows         \
    " LIMIT ?3))"
/* Every worker that something names. */
#define NAMED                                                                                      \
    "SELECT consumer_worker_id FROM pgqrs_messages WHERE consumer_worker_id IS NOT NULL UNION"     \
    " SELECT producer_worker_id FROM pgqrs_messages WHERE producer_worker_id IS NOT NULL UNION"    \
    " SELECT worker_id FROM pgqrs_workflow_runs WHERE worker_id IS NOT NULL"
/* A dead letter that keeps the error it had. */
#define USED_UP                                                                                    \
    "coalesce(pgqrsd_error, 'attempts used up: found ' || " ATTEMPTS                               \
    " || ', expected at most ' || ?3)"
#define UNFINISHED_RUN                                                                             \
    "SELECT 1 FROM pgqrs_workflow_runs WHERE message_id = m.id"                                    \
    " AND status IN ('QUEUED', 'RUNNING', 'PAUSED', 'CANCELLING')"
/* ?2: who has not beaten since is dead; ?3: workers of pgqrs' clients too. */
#define REAPABLE "(?3 OR w.pgqrsd_instance IS NOT NULL)"
/* The three that fence, and that the message has not ended. */
#define FENCE "id = ?1 AND consumer_worker_id = ?2 AND read_ct = ?3 AND archived_at IS NULL"
#define UNENDED "status NOT IN ('SUCCESS', 'ERROR', 'CANCELLED')"
#define FAILURE "pgqrsd_error = coalesce(?4, pgqrsd_error), pgqrsd_crash_ct = pgqrsd_crash_ct + ?5"

/* Somebody else's row may hold no count, or one that is no count. */
/* A crash is counted apart. */
#define ATTEMPTS "(coalesce(read_ct, 0) - pgqrsd_crash_ct)"
#define NEXT_READ_CT "max(coalesce(read_ct, 0), 0) + 1"

#define SCHEDULE                                                                                   \
    "SELECT s.id, s.name, q.queue_name, s.queue_id, s.cron, s.zone, s.payload, s.priority,"        \
    " s.catch_up, s.overlap, s.config, s.created_at, s.paused_at, s.next_at, s.planned,"           \
    " s.last_at, s.last_message_id FROM pgqrsd_schedules s"
#define OF_QUEUE " JOIN pgqrs_queues q ON q.id = s.queue_id"

static const char *const texts[] =
    {
        [STMT_BEGIN] = "BEGIN IMMEDIATE",
        [STMT_BEGIN_READ] = "BEGIN",
        [STMT_COMMIT] = "COMMIT",
        [STMT_ROLLBACK] = "ROLLBACK",
        [STMT_SAVEPOINT] = "SAVEPOINT pgqrs_call",
        [STMT_SAVEPOINT_RELEASE] = "RELEASE pgqrs_call",
        [STMT_SAVEPOINT_ROLLBACK] = "ROLLBACK TO pgqrs_call",

        [STMT_DATA_VERSION] = "PRAGMA data_version",

        [STMT_QUEUE_CREATE] = "INSERT INTO pgqrs_queues (queue_name, created_at) VALUES (?1, ?2)",
        [STMT_QUEUE_FIND] = "SELECT id FROM pgqrs_queues WHERE queue_name = ?1",
        [STMT_QUEUE_LIST] = "SELECT id, queue_name, created_at, pgqrsd_paused_at FROM pgqrs_queues"
                            " WHERE id > ?1 ORDER BY id LIMIT ?2",
        [STMT_QUEUE_EXISTS] = "SELECT 1 FROM pgqrs_queues WHERE id = ?1",
        [STMT_QUEUE_PAUSE] = "UPDATE pgqrs_queues SET pgqrsd_paused_at ="
                             " CASE WHEN ?2 IS NOT NULL THEN coalesce(pgqrsd_paused_at, ?2) END"
                             " WHERE id = ?1",
        [STMT_QUEUE_IN_THE_WAY] =
            "SELECT EXISTS (SELECT 1 FROM pgqrs_messages INDEXED BY idx_messages_hot_path"
            " WHERE queue_id = ?1 AND archived_at IS NULL),"
            " EXISTS (SELECT 1 FROM pgqrs_messages INDEXED BY idx_messages_archived_at"
            " WHERE queue_id = ?1 AND archived_at IS NOT NULL),"
            " (SELECT count(*) FROM pgqrs_workers WHERE queue_id = ?1 AND status <> 'stopped'),"
            " EXISTS (SELECT 1 FROM pgqrs_workflows WHERE queue_id = ?1),"
            " EXISTS (SELECT 1 FROM pgqrsd_schedules WHERE queue_id = ?1)",
        [STMT_QUEUE_WORKERS] =
            "DELETE FROM pgqrs_workers WHERE queue_id = ?1 AND id NOT IN (" NAMED ")",
        [STMT_QUEUE_LEAVE] = "UPDATE pgqrs_workers SET queue_id = NULL WHERE queue_id = ?1",
        [STMT_QUEUE_DELETE] = "DELETE FROM pgqrs_queues WHERE id = ?1",
        [STMT_PURGE_PENDING] = "SELECT id FROM pgqrs_messages INDEXED BY pgqrsd_messages_lease"
                               " WHERE queue_id = ?1 AND " PENDING " LIMIT ?2",
        [STMT_PURGE_LEASED] =
            "SELECT id FROM pgqrs_messages INDEXED BY idx_messages_consumer_active"
            " WHERE queue_id = ?1 AND " LEASED " LIMIT ?2",
        [STMT_PURGE_ARCHIVED] = "SELECT id FROM pgqrs_messages INDEXED BY idx_messages_archived_at"
                                " WHERE queue_id = ?1 AND archived_at IS NOT NULL"
                                " ORDER BY archived_at LIMIT ?2",

        /* ?1 the queue, ?2 now, ?3 how many rows each of them looks at; below 0: all. */
        [STMT_METRICS_COUNTS] =
            "SELECT " COUNTED("pgqrsd_messages_lease", "queue_id = ?1 AND " PENDING) ", " COUNTED("idx_messages_hot_path", READY(" AND vt <= ?2")) " + " COUNTED(
                "idx_messages_hot_path",
                READY(
                    " AND vt IS NULL")) ", " COUNTED("idx_messages_consumer_active",
                                                     "queue_id = ?1 AND " LEASED) ", " COUNTED("idx"
                                                                                               "_me"
                                                                                               "ssa"
                                                                                               "ges"
                                                                                               "_ar"
                                                                                               "chi"
                                                                                               "ved"
                                                                                               "_a"
                                                                                               "t",
                                                                                               "que"
                                                                                               "ue_"
                                                                                               "id "
                                                                                               "= "
                                                                                               "?1 "
                                                                                               "AND"
                                                                                               " ar"
                                                                                               "chi"
                                                                                               "ved"
                                                                                               "_at"
                                                                                               " IS"
                                                                                               " NO"
                                                                                               "T "
                                                                                               "NUL"
                                                                                               "L") ", " COUNTED("pgqrsd_messages_failed",
                                                                                                                 "queue_id = ?1 AND pgqrsd_outcome = 'failed' AND archived_at IS NOT NULL"),
        /* In the order in which they are due, nearly that of enqueueing, and from both ends. */
        [STMT_METRICS_TIMES] =
            "SELECT (SELECT min(enqueued_at) FROM (SELECT enqueued_at FROM pgqrs_messages"
            " INDEXED BY idx_messages_hot_path WHERE queue_id = ?1 AND " PENDING
            " ORDER BY vt LIMIT ?3)),"
            " (SELECT max(at) FROM (SELECT max(enqueued_at) AS at FROM (SELECT enqueued_at"
            " FROM pgqrs_messages INDEXED BY idx_messages_hot_path WHERE queue_id = ?1"
            " AND archived_at IS NULL ORDER BY vt LIMIT ?3)"
            " UNION ALL SELECT max(enqueued_at) FROM (SELECT enqueued_at FROM pgqrs_messages"
            " INDEXED BY idx_messages_hot_path WHERE queue_id = ?1 AND archived_at IS NULL"
            " ORDER BY vt DESC LIMIT ?3)"
            " UNION ALL SELECT max(enqueued_at) FROM (SELECT enqueued_at FROM pgqrs_messages"
            " INDEXED BY idx_messages_archived_at WHERE queue_id = ?1 AND archived_at IS NOT NULL"
            " ORDER BY archived_at DESC LIMIT 1000))),"
            " (SELECT vt FROM pgqrs_messages INDEXED BY idx_messages_hot_path"
            " WHERE queue_id = ?1 AND " PENDING " AND vt > ?2 ORDER BY vt LIMIT 1)",

        [STMT_ENQUEUE] = "INSERT INTO pgqrs_messages"
                         " (queue_id, payload, vt, enqueued_at, read_ct, pgqrsd_priority,"
                         " producer_worker_id, pgqrsd_unique_key)"
                         " VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7)",
        [STMT_KEY_HOLDER] =
            "SELECT id FROM pgqrs_messages INDEXED BY pgqrsd_messages_unique"
            " WHERE queue_id = ?1 AND pgqrsd_unique_key = ?2 AND archived_at IS NULL",
        [STMT_MESSAGE_GET] =
            "SELECT " PGQRS_SQLITE_MESSAGE_COLUMNS " FROM pgqrs_messages WHERE id = ?1",

        [STMT_WORKER_EXISTS] = "SELECT 1 FROM pgqrs_workers WHERE id = ?1",
        [STMT_WORKER_FIND] = "SELECT id, status, pgqrsd_instance, pgqrsd_generation, heartbeat_at"
                             " FROM pgqrs_workers WHERE name = ?1",
        [STMT_WORKER_INSERT] =
            "INSERT INTO pgqrs_workers (queue_id, name, started_at, heartbeat_at,"
            " status, pgqrsd_instance, pgqrsd_generation, pgqrsd_pid)"
            " VALUES (?1, ?2, ?3, ?3, 'ready', ?4, ?5, ?6)",
        [STMT_WORKER_TAKE] = "UPDATE pgqrs_workers SET queue_id = ?1, started_at = ?3,"
                             " heartbeat_at = ?3, shutdown_at = NULL, status = 'ready',"
                             " pgqrsd_instance = ?4, pgqrsd_generation = ?5, pgqrsd_pid = ?6"
                             " WHERE name = ?2",
        [STMT_WORKER_BEAT] = "UPDATE pgqrs_workers SET heartbeat_at = ?2"
                             " WHERE id IN (SELECT value FROM json_each(?1))",
        [STMT_WORKER_STOP] = "UPDATE pgqrs_workers SET status = 'stopped', shutdown_at = ?2"
                             " WHERE id = ?1",
        [STMT_WORKER_HELD] = "SELECT id, read_ct FROM pgqrs_messages"
                             " INDEXED BY idx_messages_consumer_active"
                             " WHERE consumer_worker_id = ?1 AND archived_at IS NULL",
        [STMT_WORKER_FIRST] = "SELECT id, read_ct, pgqrsd_crash_ct FROM pgqrs_messages"
                              " INDEXED BY idx_messages_consumer_active"
                              " WHERE consumer_worker_id = ?1 AND archived_at IS NULL"
                              " ORDER BY pgqrsd_priority DESC, pgqrsd_due_at, id LIMIT 1",
        [STMT_WORKER_FREE] = "UPDATE pgqrs_messages INDEXED BY idx_messages_consumer_active"
                             " SET consumer_worker_id = NULL, vt = coalesce(pgqrsd_due_at, ?2),"
                             " read_ct = max(read_ct - 1, 0)"
                             " WHERE consumer_worker_id = ?1 AND archived_at IS NULL",

        /* As pgqrs does: due now, and the attempt is spent. */
        [STMT_WORKER_GIVE_UP] = "UPDATE pgqrs_messages INDEXED BY idx_messages_consumer_active"
                                " SET consumer_worker_id = NULL, vt = ?2"
                                " WHERE consumer_worker_id = ?1 AND archived_at IS NULL",
        [STMT_WORKER_STATE] = "SELECT status FROM pgqrs_workers WHERE id = ?1",
        [STMT_WORKER_SET] = "UPDATE pgqrs_workers SET status = ?2 WHERE id = ?1",
        [STMT_WORKER_HELD_COUNT] = "SELECT count(*) FROM pgqrs_messages"
                                   " INDEXED BY idx_messages_consumer_active"
                                   " WHERE consumer_worker_id = ?1 AND archived_at IS NULL",
        [STMT_WORKER_NAMED] = "SELECT (SELECT CASE WHEN consumer_worker_id = ?1 THEN 1 ELSE 2 END"
                              " FROM pgqrs_messages NOT INDEXED"
                              " WHERE consumer_worker_id = ?1 OR producer_worker_id = ?1 LIMIT 1),"
                              " EXISTS (SELECT 1 FROM pgqrs_workflow_runs WHERE worker_id = ?1)",
        [STMT_WORKER_DELETE] = "DELETE FROM pgqrs_workers WHERE id = ?1",
        [STMT_WORKER_PURGE] = "DELETE FROM pgqrs_workers WHERE id IN (SELECT id FROM pgqrs_workers"
                              " WHERE status = 'stopped' AND heartbeat_at < ?1"
                              " AND id NOT IN (" NAMED ") ORDER BY id LIMIT ?2)",
        [STMT_WORKER_STATS] =
            "SELECT count(*), count(CASE WHEN w.status = 'ready' THEN 1 END),"
            " count(CASE WHEN w.status = 'polling' THEN 1 END),"
            " count(CASE WHEN w.status = 'suspended' THEN 1 END),"
            " count(CASE WHEN w.status = 'interrupted' THEN 1 END),"
            " count(CASE WHEN w.status = 'stopped' THEN 1 END),"
            " count(CASE WHEN w.status IN ('ready', 'polling') AND w.heartbeat_at < ?2 THEN 1 END),"
            " min(CASE WHEN w.status <> 'stopped' THEN w.started_at END),"
            " max(CASE WHEN w.status <> 'stopped' THEN w.heartbeat_at END),"
            " coalesce(sum((SELECT count(*) FROM pgqrs_messages INDEXED BY"
            " idx_messages_consumer_active WHERE consumer_worker_id = w.id"
            " AND archived_at IS NULL)), 0)"
            " FROM pgqrs_workers w WHERE CASE ?1 WHEN 0 THEN 1 WHEN -1 THEN w.queue_id IS NULL"
            " ELSE w.queue_id = ?1 END",
        [STMT_INFO] = "SELECT count(*), count(pgqrsd_paused_at),"
                      " (SELECT count(*) FROM pgqrs_workflows),"
                      " (SELECT max(version) FROM pgqrsd_schema) FROM pgqrs_queues",

        [STMT_ACT_LOOK] = "SELECT archived_at IS NOT NULL, consumer_worker_id IS NOT NULL,"
                          " EXISTS (SELECT 1 FROM pgqrs_workers w WHERE w.id = consumer_worker_id"
                          " AND w.pgqrsd_instance IS NOT NULL AND w.status <> 'stopped')"
                          " FROM pgqrs_messages WHERE id = ?1",
        [STMT_CANCEL_ASK] = "INSERT OR IGNORE INTO pgqrsd_cancel_requests"
                            " (message_id, requested_at) VALUES (?1, ?2)",
        [STMT_CANCEL_FORGET] = "DELETE FROM pgqrsd_cancel_requests WHERE message_id = ?1",

        /* ?1 the workers' ids, ?2 now. */
        [STMT_ORDERS_BEAT] = "UPDATE pgqrs_workers SET heartbeat_at = ?2"
                             " WHERE id IN (SELECT value FROM json_each(?1))"
                             " RETURNING id, status, EXISTS (SELECT 1 FROM pgqrsd_cancel_requests)",
        [STMT_ORDERS_LOOK] = "SELECT id, status, EXISTS (SELECT 1 FROM pgqrsd_cancel_requests)"
                             " FROM pgqrs_workers WHERE id IN (SELECT value FROM json_each(?1))",
        [STMT_ORDERS_END] = "UPDATE pgqrs_messages SET archived_at = ?1,"
                            " pgqrsd_outcome = 'cancelled', pgqrsd_result = NULL,"
                            " pgqrsd_error = '" PGQRS_CANCELLED_TEXT "'"
                            " WHERE id IN (SELECT message_id FROM pgqrsd_cancel_requests)"
                            " AND +archived_at IS NULL AND +consumer_worker_id IS NULL",
        [STMT_ORDERS_FORGET] = "DELETE FROM pgqrsd_cancel_requests WHERE NOT EXISTS (SELECT 1"
                               " FROM pgqrs_messages m WHERE m.id = message_id"
                               " AND +m.archived_at IS NULL)",
        [STMT_ORDERS_HELD] =
            "SELECT m.id, m.consumer_worker_id, m.read_ct FROM pgqrsd_cancel_requests r"
            " CROSS JOIN pgqrs_messages m ON m.id = r.message_id"
            " WHERE +m.consumer_worker_id IN (SELECT value FROM json_each(?1))"
            " ORDER BY r.message_id LIMIT ?2",
        [STMT_ACT_CANCEL] =
            "UPDATE pgqrs_messages SET archived_at = ?2, pgqrsd_outcome = 'cancelled',"
            " pgqrsd_result = NULL WHERE id = ?1",
        [STMT_ACT_FREE] =
            "UPDATE pgqrs_messages SET consumer_worker_id = NULL, vt = ?2 WHERE id = ?1",
        [STMT_ACT_REPLAY] =
            "UPDATE pgqrs_messages AS m SET archived_at = NULL, consumer_worker_id = NULL,"
            " dequeued_at = NULL, read_ct = 0, vt = ?2, enqueued_at = ?2, pgqrsd_due_at = NULL,"
            " pgqrsd_crash_ct = 0, pgqrsd_outcome = NULL, pgqrsd_result = NULL, pgqrsd_error = NULL"
            " WHERE id = ?1 AND (pgqrsd_unique_key IS NULL OR NOT EXISTS (SELECT 1"
            " FROM pgqrs_messages k INDEXED BY pgqrsd_messages_unique WHERE k.queue_id = m.queue_id"
            " AND k.pgqrsd_unique_key = m.pgqrsd_unique_key AND k.archived_at IS NULL))",
        [STMT_MESSAGE_DELETE] = "DELETE FROM pgqrs_messages WHERE id = ?1",
        [STMT_RUN_DELETE] = "DELETE FROM pgqrs_workflow_runs WHERE message_id = ?1",
        [STMT_STEPS_DELETE] = "DELETE FROM pgqrs_workflow_steps WHERE run_id ="
                              " (SELECT id FROM pgqrs_workflow_runs WHERE message_id = ?1)",

        [STMT_PRUNE_ENDED] =
            "SELECT id, coalesce(pgqrsd_outcome, '') <> 'failed' AND NOT EXISTS (" UNFINISHED_RUN
            "), archived_at FROM pgqrs_messages m INDEXED BY idx_messages_archived_at"
            " WHERE queue_id = ?1 AND archived_at IS NOT NULL AND archived_at < ?3"
            " AND (archived_at, id) > (?5, ?4) ORDER BY archived_at, id LIMIT ?2",
        [STMT_PRUNE_FAILED] = "SELECT id, archived_at IS NOT NULL AND archived_at < ?3"
                              " AND NOT EXISTS (" UNFINISHED_RUN ") FROM pgqrs_messages m"
                              " INDEXED BY pgqrsd_messages_failed WHERE queue_id = ?1"
                              " AND pgqrsd_outcome = 'failed' AND id > ?4 ORDER BY id LIMIT ?2",
        [STMT_BURY_FRONT] = "SELECT id, " ATTEMPTS " FROM pgqrs_messages"
                            " INDEXED BY pgqrsd_messages_lease"
                            " WHERE queue_id = ?1 AND pgqrsd_priority = ?2 AND " PENDING
                            " AND vt <= ?3 ORDER BY vt, id LIMIT ?4",
        [STMT_BURY] = "UPDATE pgqrs_messages SET archived_at = ?2, pgqrsd_outcome = 'failed',"
                      " pgqrsd_result = NULL, pgqrsd_error = " USED_UP
                      " WHERE id = ?1 AND +archived_at IS NULL AND +consumer_worker_id IS NULL"
                      " AND " ATTEMPTS " >= ?3",
        [STMT_REAP_HOLDER] = "SELECT consumer_worker_id FROM pgqrs_messages"
                             " INDEXED BY idx_messages_consumer_active WHERE " LEASED
                             " AND consumer_worker_id > ?1 ORDER BY consumer_worker_id LIMIT 1",
        [STMT_REAP_DEAD] = "SELECT " REAPABLE " AND (w.status = 'stopped' OR w.heartbeat_at < ?2)"
                           " FROM pgqrs_workers w WHERE w.id = ?1",
        [STMT_REAP_LEASES] = "SELECT id FROM pgqrs_messages INDEXED BY idx_messages_consumer_active"
                             " WHERE consumer_worker_id = ?1 AND archived_at IS NULL"
                             " AND coalesce(vt, '') <= ?2 AND (?3 = 0 OR queue_id = ?3) LIMIT ?4",
        [STMT_REAP_FREE] = "UPDATE pgqrs_messages SET consumer_worker_id = NULL, vt = ?2,"
                           " pgqrsd_error = 'lease expired: its worker is dead' WHERE id = ?1",
        [STMT_REAP_WORKERS] =
            "SELECT w.id FROM pgqrs_workers w WHERE w.status <> 'stopped' AND " REAPABLE
            " AND w.heartbeat_at < ?2 AND (?1 = 0 OR w.queue_id = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM pgqrs_messages INDEXED BY idx_messages_consumer_active"
            " WHERE consumer_worker_id = w.id AND archived_at IS NULL) ORDER BY w.id LIMIT ?4",

        /* OR FAIL: whoever calls it rolls back in any case, and SQLite keeps no journal
         * for that, as it would because of the trigger. */
        [STMT_SETTLE_END] =
            "UPDATE OR FAIL pgqrs_messages SET archived_at = ?6, pgqrsd_outcome = ?7,"
            " pgqrsd_result = ?8, " FAILURE " WHERE " FENCE,
        [STMT_SETTLE_DELETE] = "DELETE FROM pgqrs_messages WHERE " FENCE
                               " AND NOT EXISTS (SELECT 1 FROM pgqrs_workflow_runs"
                               " WHERE message_id = ?1)",
        [STMT_SETTLE_RELEASE] =
            "UPDATE pgqrs_messages SET consumer_worker_id = NULL,"
            " vt = coalesce(?6, pgqrsd_due_at, ?7), read_ct = read_ct - ?8, " FAILURE
            " WHERE " FENCE,
        [STMT_SETTLE_LOOK] = "SELECT consumer_worker_id = ?2 AND read_ct = ?3"
                             " AND archived_at IS NOT NULL FROM pgqrs_messages WHERE id = ?1",
        [STMT_RENEW] = "UPDATE pgqrs_messages SET vt = ?4 WHERE " FENCE,

        [STMT_CLAIM_LOOK] = "SELECT queue_id, archived_at IS NOT NULL,"
                            " coalesce(pgqrsd_outcome = 'failed', 0), consumer_worker_id"
                            " FROM pgqrs_messages WHERE id = ?1",
        [STMT_CLAIM_PICK] = "SELECT id, " NEXT_READ_CT ", enqueued_at, payload, pgqrsd_crash_ct,"
                            " pgqrsd_priority FROM pgqrs_messages WHERE id = ?1",

        /* A worker that takes jobs, and a queue that is not paused, or there is no row; without a
         * level a row of NULLs. */
        [STMT_LEVEL] =
            "SELECT m.pgqrsd_priority, m.vt FROM pgqrs_workers w CROSS JOIN pgqrs_queues q"
            " LEFT JOIN pgqrs_messages m INDEXED BY pgqrsd_messages_lease"
            " ON m.queue_id = ?1 AND m.pgqrsd_priority < ?2 AND m.archived_at IS NULL"
            " AND m.consumer_worker_id IS NULL"
            " WHERE w.id = ?3 AND w.status IN ('ready', 'polling')"
            " AND q.id = ?1 AND q.pgqrsd_paused_at IS NULL"
            " ORDER BY m.pgqrsd_priority DESC, m.vt LIMIT 1",
        [STMT_PRIORITY] =
            "SELECT pgqrsd_priority FROM pgqrs_messages INDEXED BY pgqrsd_messages_lease"
            " WHERE queue_id = ?1 AND pgqrsd_priority < ?2 AND " PENDING
            " ORDER BY pgqrsd_priority DESC LIMIT 1",
        [STMT_LEASABLE] = "SELECT 1 FROM pgqrs_messages INDEXED BY pgqrsd_messages_lease"
                          " WHERE queue_id = ?1 AND pgqrsd_priority = ?2 AND " PENDING
                          " AND vt <= ?3 AND " ATTEMPTS " < ?6 LIMIT 1",
        [STMT_PICK] = "SELECT id, " NEXT_READ_CT ", enqueued_at, payload, pgqrsd_crash_ct, vt FROM"
                      " pgqrs_messages INDEXED BY pgqrsd_messages_lease"
                      " WHERE queue_id = ?1 AND pgqrsd_priority = ?2 AND " PENDING
                      " AND vt <= ?3 AND " ATTEMPTS " < ?6 ORDER BY vt, id LIMIT ?7",
        [STMT_TAKE] =
            "UPDATE pgqrs_messages SET pgqrsd_due_at = vt, vt = ?2, read_ct = " NEXT_READ_CT ","
            " consumer_worker_id = ?3, dequeued_at = coalesce(dequeued_at, ?4) WHERE id = ?1",
        [STMT_LATER] = "SELECT vt FROM pgqrs_messages INDEXED BY pgqrsd_messages_lease"
                       " WHERE queue_id = ?1 AND pgqrsd_priority = ?2 AND " PENDING
                       " AND vt > ?3 ORDER BY vt LIMIT 1",
        [STMT_REPAIR_VT] =
            "UPDATE pgqrs_messages INDEXED BY pgqrsd_messages_lease SET vt = ?3"
            " WHERE queue_id = ?1 AND pgqrsd_priority = ?2 AND " PENDING " AND vt IS NULL",

        [STMT_SCHEDULE_INSERT] =
            "INSERT INTO pgqrsd_schedules (name, queue_id, cron, zone, payload, priority, catch_up,"
            " overlap, config, paused_at, next_at, created_at)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, CASE WHEN ?10 = 1 THEN ?11 END,"
            " ?11, ?11)",
        /* ?10: paused, 1 yes, 2 no, 0 as it is. In an assignment a column is what it was. */
        [STMT_SCHEDULE_CHANGE] =
            "UPDATE pgqrsd_schedules SET queue_id = ?2, cron = ?3, zone = ?4, payload = ?5,"
            " priority = ?6, catch_up = ?7, overlap = ?8, config = ?9,"
            " paused_at = CASE ?10 WHEN 1 THEN coalesce(paused_at, ?11) WHEN 0 THEN paused_at END,"
            " next_at = CASE WHEN cron <> ?3 OR zone <> ?4"
            " OR (?10 = 2 AND paused_at IS NOT NULL) THEN ?11 ELSE next_at END,"
            " planned = planned AND cron = ?3 AND zone = ?4"
            " AND NOT (?10 = 2 AND paused_at IS NOT NULL)"
            " WHERE name = ?1 AND (queue_id <> ?2 OR cron <> ?3 OR zone <> ?4 OR payload <> ?5"
            " OR priority <> ?6 OR catch_up <> ?7 OR overlap <> ?8 OR config IS NOT ?9"
            " OR (?10 = 1 AND paused_at IS NULL) OR (?10 = 2 AND paused_at IS NOT NULL))",
        [STMT_SCHEDULE_LIST] = SCHEDULE OF_QUEUE " WHERE s.name > ?1 ORDER BY s.name LIMIT ?2",
        [STMT_SCHEDULE_FIND] = SCHEDULE OF_QUEUE " WHERE s.name = ?1",
        /* As many as are read. */
        [STMT_SCHEDULE_DUE] = SCHEDULE " INDEXED BY pgqrsd_schedules_next CROSS" OF_QUEUE
                                       " WHERE s.paused_at IS NULL ORDER BY s.next_at",
        [STMT_SCHEDULE_PAUSE] =
            "UPDATE pgqrsd_schedules SET paused_at = CASE WHEN ?2 THEN coalesce(paused_at, ?3) END,"
            " next_at = CASE WHEN NOT ?2 AND paused_at IS NOT NULL THEN ?3 ELSE next_at END,"
            " planned = planned AND (?2 OR paused_at IS NULL) WHERE name = ?1",
        [STMT_SCHEDULE_DELETE] = "DELETE FROM pgqrsd_schedules WHERE id = ?1",
        [STMT_SCHEDULE_OTHERS] = "SELECT id FROM pgqrsd_schedules WHERE config = ?1"
                                 " AND name NOT IN (SELECT value FROM json_each(?2))",
        [STMT_SCHEDULE_LOOK] =
            "SELECT queue_id, payload, priority, overlap = 'skip', EXISTS (SELECT 1"
            " FROM pgqrs_messages WHERE id = last_message_id AND archived_at IS NULL)"
            " FROM pgqrsd_schedules WHERE id = ?1 AND next_at = ?2 AND paused_at IS NULL",
        [STMT_SCHEDULE_FIRED] = "UPDATE pgqrsd_schedules SET next_at = ?2, planned = ?3,"
                                " last_at = coalesce(?4, last_at),"
                                " last_message_id = coalesce(?5, last_message_id) WHERE id = ?1",
        [STMT_TICK_INSERT] =
            "INSERT OR IGNORE INTO pgqrsd_schedule_ticks (schedule_id, tick_at) VALUES (?1, ?2)",
        [STMT_TICK_MESSAGE] = "UPDATE pgqrsd_schedule_ticks SET message_id = ?3"
                              " WHERE schedule_id = ?1 AND tick_at = ?2",
        [STMT_TICKS_OLD] =
            "DELETE FROM pgqrsd_schedule_ticks WHERE schedule_id = ?1"
            " AND tick_at <= (SELECT tick_at"
            " FROM pgqrsd_schedule_ticks WHERE schedule_id = ?1 ORDER BY tick_at DESC"
            " LIMIT 1 OFFSET ?2)",
        [STMT_TICKS_DELETE] = "DELETE FROM pgqrsd_schedule_ticks WHERE schedule_id = ?1",
        /* The error of a run whose message the next statement archives: the trigger's part. */
        [STMT_RUN_FAILS] = "UPDATE pgqrs_workflow_runs SET error = (SELECT"
                           " json_quote(coalesce(?4, pgqrsd_error, 'failed')) FROM pgqrs_messages"
                           " WHERE " FENCE ") WHERE message_id = ?1 AND " UNENDED
                           " AND EXISTS (SELECT 1 FROM pgqrs_messages WHERE " FENCE ")",
        [STMT_RUN_FAILS_WAITING] =
            "UPDATE pgqrs_workflow_runs SET error = (SELECT"
            " json_quote(coalesce(pgqrsd_error, 'cancelled')) FROM pgqrs_messages WHERE id = ?1)"
            " WHERE message_id = ?1 AND " UNENDED,
        [STMT_RUN_FAILS_BURIED] =
            "UPDATE pgqrs_workflow_runs SET error = (SELECT json_quote(" USED_UP ")"
            " FROM pgqrs_messages WHERE id = ?1) WHERE message_id = ?1 AND " UNENDED
            " AND EXISTS (SELECT 1 FROM pgqrs_messages WHERE id = ?1 AND +archived_at IS NULL"
            " AND +consumer_worker_id IS NULL AND " ATTEMPTS " >= ?3)",
        [STMT_RUN_FAILS_ORDERED] =
            "UPDATE pgqrs_workflow_runs SET error = '\"" PGQRS_CANCELLED_TEXT "\"'"
            " WHERE message_id IN (SELECT r.message_id FROM pgqrsd_cancel_requests r"
            " CROSS JOIN pgqrs_messages m ON m.id = r.message_id"
            " WHERE +m.archived_at IS NULL AND +m.consumer_worker_id IS NULL) AND " UNENDED,
};
_Static_assert(sizeof texts / sizeof *texts == STMT_FLOW_FIRST, "every statement has its text");

const char *pgqrs_sqlite_sql(enum sqlite_stmt_id id)
{
    return id < STMT_FLOW_FIRST ? texts[id] : pgqrs_sqlite_flow_sql(id);
}
