/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_flow.h"

/* The statements about workflows, prepared once and kept as those of sqlite_sql.c are. */

#define FENCE "id = ?1 AND consumer_worker_id = ?2 AND read_ct = ?3 AND archived_at IS NULL"
#define WAITS "+archived_at IS NULL AND +consumer_worker_id IS NULL"
#define LIVE "status IN ('QUEUED', 'RUNNING', 'PAUSED')"
#define RUN_OF(message) "(SELECT id FROM pgqrs_workflow_runs WHERE message_id = " message ")"
#define JSON_OF(value)                                                                             \
    "CASE WHEN " value " IS NULL OR json_valid(" value ") THEN " value " ELSE json_quote(" value   \
    ") END"

#define RUN_COLUMNS                                                                                \
    "SELECT r.id, r.message_id, r.workflow_id, coalesce(m.pgqrsd_parent_id, 0),"                   \
    " coalesce(r.worker_id, 0), r.status, coalesce(w.name, ''), r.input, r.output, r.error,"       \
    " r.created_at, r.updated_at, r.started_at, r.paused_at, r.completed_at,"                      \
    " CASE WHEN m.archived_at IS NULL AND m.consumer_worker_id IS NULL THEN m.vt END"
#define RUN_JOINS                                                                                  \
    " LEFT JOIN pgqrs_messages m ON m.id = r.message_id"                                           \
    " LEFT JOIN pgqrs_workflows w ON w.id = r.workflow_id"
/* ?1 ids below, ?2 ids from, ?3 workflow, ?4 status, ?5 parent, ?6 how many. */
#define RUN_PAGE                                                                                   \
    " WHERE r.id < ?1 AND r.id >= ?2 AND (?3 = 0 OR r.workflow_id = ?3)"                           \
    " AND (?4 IS NULL OR r.status = ?4) AND (?5 = 0 OR m.pgqrsd_parent_id = ?5)"
#define RUN_PAGE_END " ORDER BY r.id DESC LIMIT ?6"

#define AT(id) [(id)-STMT_FLOW_FIRST]

static const char *const texts[] = {
    AT(STMT_WORKFLOW_FIND) = "SELECT id, queue_id, name, created_at FROM pgqrs_workflows"
                             " WHERE name = ?1",
    AT(STMT_WORKFLOW_LIST) = "SELECT id, queue_id, name, created_at FROM pgqrs_workflows"
                             " WHERE id > ?1 ORDER BY id LIMIT ?2",
    AT(STMT_WORKFLOW_CREATE) = "INSERT INTO pgqrs_workflows (name, queue_id, created_at)"
                               " VALUES (?1, ?2, ?3)",

    AT(STMT_RUN_GET) =
        RUN_COLUMNS " FROM pgqrs_workflow_runs r" RUN_JOINS " WHERE r.message_id = ?1",
    AT(STMT_RUN_LIST) =
        RUN_COLUMNS " FROM pgqrs_workflow_runs r NOT INDEXED" RUN_JOINS RUN_PAGE RUN_PAGE_END,
    AT(STMT_RUN_LIST_STATUS) = RUN_COLUMNS
    " FROM pgqrs_workflow_runs r INDEXED BY idx_workflow_runs_status" RUN_JOINS RUN_PAGE
    " AND r.status = ?4" RUN_PAGE_END,
    AT(STMT_RUN_LIST_PARENT) =
        RUN_COLUMNS " FROM pgqrs_messages m INDEXED BY pgqrsd_messages_parent"
                    " CROSS JOIN pgqrs_workflow_runs r ON r.message_id = m.id"
                    " LEFT JOIN pgqrs_workflows w ON w.id = r.workflow_id" RUN_PAGE
                    " AND m.pgqrsd_parent_id = ?5" RUN_PAGE_END,
    AT(STMT_RUN_LIST_END) = "SELECT id FROM pgqrs_workflow_runs NOT INDEXED WHERE id < ?1"
                            " ORDER BY id DESC LIMIT 1 OFFSET ?2",
    AT(STMT_RUN_LIST_STATUS_END) =
        "SELECT id FROM pgqrs_workflow_runs INDEXED BY idx_workflow_runs_status"
        " WHERE id < ?1 AND status = ?3 ORDER BY id DESC LIMIT 1 OFFSET ?2",
    AT(STMT_RUN_STEPS) =
        "SELECT step_name, pgqrsd_kind, status, output, error, retry_count, started_at,"
        " completed_at, retry_at FROM pgqrs_workflow_steps WHERE run_id = " RUN_OF(
            "?1") " ORDER BY id",
    AT(STMT_RUN_STATE) = "SELECT key, value, updated_at FROM pgqrsd_workflow_state"
                         " WHERE message_id = ?1 ORDER BY key",
    AT(STMT_RUN_EVENTS) = "SELECT name, payload, created_at FROM pgqrsd_workflow_events"
                          " WHERE message_id = ?1 ORDER BY name",

    AT(STMT_RUN_LOOK) = "SELECT coalesce(r.id, 0), r.status, m.archived_at IS NOT NULL,"
                        " m.consumer_worker_id IS NOT NULL FROM pgqrs_messages m"
                        " LEFT JOIN pgqrs_workflow_runs r ON r.message_id = m.id WHERE m.id = ?1",
    /* One whose message nobody will lease again has nobody who would see it. */
    AT(STMT_RUN_CANCEL) =
        "UPDATE pgqrs_workflow_runs SET updated_at = ?2, (status, completed_at) ="
        " (SELECT CASE WHEN archived_at IS NULL THEN 'CANCELLING' ELSE 'CANCELLED' END,"
        " CASE WHEN archived_at IS NOT NULL THEN ?2 END FROM pgqrs_messages WHERE id = ?1)"
        " WHERE message_id = ?1 AND " LIVE,
    AT(STMT_MESSAGE_WAKE) =
        "UPDATE pgqrs_messages SET vt = ?2 WHERE id = ?1 AND " WAITS " AND vt > ?2",
    AT(STMT_MESSAGE_MARK) =
        "UPDATE pgqrs_messages SET pgqrsd_flow = 1 WHERE id = ?1 AND pgqrsd_flow = 0",
    AT(STMT_RESUME_STEPS) =
        "UPDATE pgqrs_workflow_steps SET retry_at = ?2"
        " WHERE run_id = " RUN_OF("?1") " AND status = 'ERROR'"
                                        " AND (retry_at > ?2 OR (retry_at IS NULL"
                                        " AND pgqrsd_kind IN ('sleep', 'event')))",
    AT(STMT_EVENT_ADD) = "INSERT OR IGNORE INTO pgqrsd_workflow_events"
                         " (message_id, name, payload, created_at) VALUES (?1, ?2, ?3, ?4)",
    AT(STMT_EVENT_WAKE) = "UPDATE pgqrs_messages SET vt = ?2 WHERE id = ?1 AND " WAITS
                          " AND vt > ?2 AND EXISTS (SELECT 1 FROM pgqrs_workflow_runs"
                          " WHERE message_id = ?1 AND pgqrsd_event = ?3)",
    AT(STMT_EVENT_THERE) =
        "SELECT 1 FROM pgqrsd_workflow_events WHERE message_id = ?1 AND name = ?2",
    AT(STMT_STEP_FIND) = "SELECT s.id FROM pgqrs_workflow_steps s"
                         " WHERE s.run_id = ?1 AND s.step_name = ?2",
    /* ?1 an old message; the payload, unless ?2 is one. */
    AT(STMT_MESSAGE_AGAIN) =
        "INSERT INTO pgqrs_messages (queue_id, payload, vt, enqueued_at, read_ct, pgqrsd_priority,"
        " pgqrsd_parent_id, pgqrsd_flow) SELECT queue_id, coalesce(?2, payload), ?3, ?3, 0,"
        " pgqrsd_priority, CASE WHEN ?4 THEN pgqrsd_parent_id END, 1 FROM pgqrs_messages"
        " WHERE id = ?1",
    AT(STMT_FORK_RUN) = "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status, input,"
                        " created_at, updated_at) SELECT r.workflow_id, m.id, 'QUEUED', m.payload,"
                        " ?3, ?3 FROM pgqrs_workflow_runs r CROSS JOIN pgqrs_messages m"
                        " WHERE r.id = ?1 AND m.id = ?2",
    AT(STMT_FORK_STEPS) =
        "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status, input, output, created_at,"
        " updated_at, started_at, completed_at, retry_count, pgqrsd_kind) SELECT ?2, step_name,"
        " status, input, output, ?4, ?4, started_at, completed_at, retry_count, pgqrsd_kind"
        " FROM pgqrs_workflow_steps WHERE run_id = ?1 AND status = 'SUCCESS' AND id < ?3"
        " ORDER BY id",

    AT(STMT_OPEN_MESSAGE) = "UPDATE pgqrs_messages SET pgqrsd_flow = 1 WHERE " FENCE,
    AT(STMT_OPEN_RUN) =
        "INSERT INTO pgqrs_workflow_runs (workflow_id, message_id, status, input, created_at,"
        " updated_at, started_at, worker_id) SELECT ?2, id, 'RUNNING', payload, ?3, ?3, ?3, ?4"
        " FROM pgqrs_messages WHERE id = ?1"
        " ON CONFLICT (message_id) DO UPDATE SET"
        " started_at = CASE WHEN " LIVE " THEN coalesce(started_at, ?3) ELSE started_at END,"
        " error = CASE WHEN " LIVE " THEN NULL ELSE error END,"
        " updated_at = CASE WHEN " LIVE " THEN ?3 ELSE updated_at END,"
        " worker_id = CASE WHEN " LIVE " THEN ?4 ELSE worker_id END,"
        " status = CASE WHEN " LIVE " THEN 'RUNNING' ELSE status END, pgqrsd_event = NULL"
        " RETURNING id, status",

    /* Whether the lease is it, whether it is over, whether it was suspended by it. */
    AT(STMT_FLOW_LOOK) =
        "SELECT m.consumer_worker_id IS ?2 AND m.read_ct IS ?3, m.archived_at IS NOT NULL,"
        " m.consumer_worker_id IS NULL AND m.read_ct = ?3 - 1 AND r.worker_id = ?2"
        " AND r.status = 'PAUSED', coalesce(r.id, 0), r.status FROM pgqrs_messages m"
        " LEFT JOIN pgqrs_workflow_runs r ON r.message_id = m.id WHERE m.id = ?1",
    AT(STMT_STEP_STORED) = "SELECT output FROM pgqrs_workflow_steps"
                           " WHERE run_id = ?1 AND step_name = ?2 AND status = 'SUCCESS'",
    AT(STMT_STEP_PUT) =
        "INSERT INTO pgqrs_workflow_steps (run_id, step_name, status, output, error, created_at,"
        " updated_at, started_at, completed_at, retry_count, retry_at, pgqrsd_kind)"
        " VALUES (?1, ?2, ?3, " JSON_OF("?4") ", " JSON_OF(
            "?5") ", ?6, ?6, ?7, ?6, ?8, ?9, ?10)"
                  " ON CONFLICT (run_id, step_name) DO UPDATE SET status = excluded.status,"
                  " output = excluded.output, error = excluded.error,"
                  " started_at = coalesce(started_at, excluded.started_at),"
                  " completed_at = excluded.completed_at, retry_count = retry_count + "
                  "excluded.retry_count,"
                  " retry_at = excluded.retry_at, pgqrsd_kind = excluded.pgqrsd_kind"
                  " WHERE status <> 'SUCCESS'",
    AT(STMT_STATE_PUT) = "INSERT INTO pgqrsd_workflow_state (message_id, key, value, updated_at)"
                         " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (message_id, key) DO UPDATE"
                         " SET value = excluded.value, updated_at = excluded.updated_at",
    AT(STMT_RUN_END) = "UPDATE pgqrs_workflow_runs SET status = ?2, output = ?3, error = " JSON_OF(
        "?4") ","
              " completed_at = ?5, updated_at = ?5, pgqrsd_event = NULL WHERE id = ?1",
    AT(STMT_RUN_PAUSE) = "UPDATE pgqrs_workflow_runs SET status = 'PAUSED', error = " JSON_OF(
        "?2") ","
              " paused_at = ?3, updated_at = ?3, pgqrsd_event = ?4 WHERE id = ?1",
    AT(STMT_RUN_AWAIT) = "UPDATE pgqrs_workflow_runs SET pgqrsd_event = ?2 WHERE id = ?1",
    AT(STMT_MESSAGE_ADOPT) = "UPDATE pgqrs_messages SET pgqrsd_parent_id = ?2"
                             " WHERE id = ?1 AND pgqrsd_parent_id IS NULL",
    AT(STMT_CONTINUE_EVENTS) =
        "INSERT INTO pgqrsd_workflow_events (message_id, name, payload, created_at)"
        " SELECT ?2, e.name, e.payload, e.created_at FROM pgqrsd_workflow_events e"
        " WHERE e.message_id = ?1 AND NOT EXISTS (SELECT 1 FROM pgqrs_workflow_steps s"
        " WHERE s.run_id = ?3 AND s.step_name = e.name"
        " AND s.status = 'SUCCESS' AND s.pgqrsd_kind = 'event'"
        " AND json_type(s.output, '$.timed_out') IS NULL)",
    AT(STMT_JSON_VALID) = "SELECT 1 WHERE json_valid(?1)",
    /* What a JSON text says, for people. */
    AT(STMT_JSON_TEXT) = "SELECT CASE WHEN NOT json_valid(?1) THEN ?1 WHEN json_type(?1) = 'text'"
                         " THEN json_extract(?1, '$') ELSE ?1 END",

    AT(STMT_REPLAY_RUN) = "UPDATE pgqrs_workflow_runs SET status = 'QUEUED', error = NULL,"
                          " completed_at = NULL, updated_at = ?2"
                          " WHERE message_id = ?1 AND status = 'ERROR'",
    AT(STMT_REPLAY_STEPS) = "UPDATE pgqrs_workflow_steps SET retry_count = 0, retry_at = ?2"
                            " WHERE run_id = " RUN_OF("?1") " AND status = 'ERROR'"
                                                            " AND retry_at IS NULL",

    AT(STMT_ITEM) = "SAVEPOINT pgqrs_item",
    AT(STMT_ITEM_RELEASE) = "RELEASE pgqrs_item",
    AT(STMT_ITEM_ROLLBACK) = "ROLLBACK TO pgqrs_item",
};
_Static_assert(sizeof texts / sizeof *texts == STMT_COUNT - STMT_FLOW_FIRST,
               "every statement has its text");

const char *pgqrs_sqlite_flow_sql(enum sqlite_stmt_id id)
{
    return texts[id - STMT_FLOW_FIRST];
}
