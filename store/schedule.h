/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_SCHEDULE_H
#define PGQRS_STORE_SCHEDULE_H

/*
 * Schedules: jobs and workflow runs at times that a cron expression names. The part of the store
 * contract (store/store.h, whose rules hold here too) that keeps them: pgqrsd_schedules, and
 * pgqrsd_schedule_ticks (schedule_id, tick_at; unique), which makes each tick fire once, however
 * many brokers race for it. Expressions and time zones are base/cron.h's; the store does not read
 * them. Rows of ticks older than the last 1000 of a schedule go.
 *
 * Who creates or changes a schedule does not know its next tick. It is not planned then: next_at is
 * the store's time of the change, and a broker, which finds it due, plans it from there.
 */

#include "store/store.h"

enum pgqrs_catch_up {                          /* ticks that passed while nobody was there */
                      PGQRS_CATCH_UP_SKIP = 0, /* none of them fires */
                      PGQRS_CATCH_UP_ONCE,     /* the last of them fires */
                      PGQRS_CATCH_UP_ALL,      /* each fires */
                      PGQRS_CATCH_UP_COUNT
};
enum pgqrs_overlap {                          /* the message of an earlier tick has not ended */
                     PGQRS_OVERLAP_ALLOW = 0, /* fires all the same */
                     PGQRS_OVERLAP_SKIP,      /* the tick is recorded without a message */
                     PGQRS_OVERLAP_COUNT
};

#define PGQRS_SCHEDULE_NAME_MAX 255
#define PGQRS_SCHEDULE_TEXT_MAX 1024 /* bytes of an expression, of a zone's name */
#define PGQRS_SCHEDULE_PAYLOAD_MAX (64 * 1024)
#define PGQRS_SCHEDULE_LIST_MAX 200                         /* a list of them fits into a message */
#define PGQRS_SCHEDULE_NEVER_US INT64_C(253402300799000000) /* the end of the year 9999 */
#define PGQRS_TICKS_MAX 1000 /* of one firing, and rows that are kept of a schedule */

/* "skip", ...; "allow", ... */
const char *pgqrs_catch_up_name(enum pgqrs_catch_up catch_up);
const char *pgqrs_overlap_name(enum pgqrs_overlap overlap);
/* The first of them when there is none of that name. */
enum pgqrs_catch_up pgqrs_catch_up_from(struct pgqrs_bytes name);
enum pgqrs_overlap pgqrs_overlap_from(struct pgqrs_bytes name);

struct pgqrs_schedule {
    int64_t id;
    char *name; /* unique, 1 to 255 bytes */
    char *queue;
    int64_t queue_id;
    char *cron, *zone;
    char *payload; /* JSON; of a workflow's queue: wrapped */
    int32_t priority;
    enum pgqrs_catch_up catch_up;
    enum pgqrs_overlap overlap;
    char *config; /* name of the pgqrsd whose configuration made it, which may change and delete it;
                     null: somebody created it */
    int64_t created_at_us, paused_at_us; /* 0: not paused */
    int64_t next_at_us;                  /* the next tick */
    bool planned;                        /* it is; else the ticks after it are to come */
    int64_t last_at_us, last_message_id; /* the last tick that fired; 0: none */
};

struct pgqrs_schedule_list {
    struct pgqrs_schedule *items;
    size_t count;
    int64_t now_us; /* the store's clock */
};

enum pgqrs_schedule_pause {
    PGQRS_SCHEDULE_LEAVE = 0, /* as it is; a new one is not paused */
    PGQRS_SCHEDULE_PAUSE,
    PGQRS_SCHEDULE_RESUME,
    PGQRS_SCHEDULE_PAUSE_COUNT
};

struct pgqrs_schedule_put { /* what a new one is, or becomes */
    const char *name, *queue;
    const char *cron, *zone; /* checked by the caller */
    struct pgqrs_bytes payload;
    int32_t priority;
    enum pgqrs_catch_up catch_up;
    enum pgqrs_overlap overlap;
    enum pgqrs_schedule_pause pause;
};

/* PGQRS_ERR_EXISTS when the name is taken, PGQRS_ERR_NOT_FOUND when there is no such queue. */
int pgqrs_store_schedule_create(struct pgqrs_store *store, const struct pgqrs_schedule_put *put,
                                int64_t *id_out, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/*
 * The schedules of a configuration, in one transaction: creates those that are not there, changes
 * those that are, whoever made them, and deletes others of the same config. One that is as it
 * should be stays untouched, with the ticks it has missed; one whose expression or zone changes is
 * planned anew. Returns how many rows were changed.
 */
int64_t pgqrs_store_schedule_configure(struct pgqrs_store *store, const char *config,
                                       const struct pgqrs_schedule_put *puts, size_t count,
                                       struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* By name, upwards from after (null: the first page), up to limit, 1 to 200. */
int pgqrs_store_schedule_list(struct pgqrs_store *store, const char *after, uint32_t limit,
                              struct pgqrs_schedule_list *list_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* PGQRS_ERR_NOT_FOUND. A list of one. */
int pgqrs_store_schedule_find(struct pgqrs_store *store, const char *name,
                              struct pgqrs_schedule_list *one_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_schedule_list_fini(struct pgqrs_schedule_list *list);
/* What passes while it is paused is not caught up with. Repeating it changes nothing.
 * PGQRS_ERR_NOT_FOUND. */
int pgqrs_store_schedule_pause(struct pgqrs_store *store, const char *name, bool paused,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Its messages stay. PGQRS_ERR_NOT_FOUND; PGQRS_ERR_CONFLICT: it is a configuration's. */
int pgqrs_store_schedule_delete(struct pgqrs_store *store, const char *name,
                                struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- for the store's broker ---- */

/*
 * Those that are not paused and whose next_at has come, earliest first, up to limit, 1 to 200;
 * *next_us_out: when the first of the others has its next; 0: there is none. now_us: 0, the store's
 * clock; list_out->now_us is what was used. One statement.
 */
int pgqrs_store_schedule_due(struct pgqrs_store *store, int64_t now_us, uint32_t limit,
                             struct pgqrs_schedule_list *list_out, int64_t *next_us_out,
                             struct pgqrs_error *err) PGQRS_MUST_CHECK;

struct pgqrs_fire {
    int64_t schedule_id, expected_us; /* its next_at as it was found */
    int64_t next_us;                  /* the next tick; above 0 */
    bool unplanned;                   /* it is none: to be planned from there, then */
    const int64_t *ticks;             /* each fires unless it has; upwards */
    size_t tick_count;                /* up to PGQRS_TICKS_MAX */
    bool fired_out;                   /* false: somebody was faster, and nothing was changed */
    size_t message_count_out;         /* enqueued */
};
/*
 * In one transaction, while next_at is what was expected and it is not paused: records the ticks
 * that are not recorded yet, enqueues a message for each, and sets next_at, last_at and
 * last_message_id. With PGQRS_OVERLAP_SKIP only the first tick gets a message, and none while that
 * of the last tick that fired is not archived or deleted.
 */
int pgqrs_store_schedule_fire(struct pgqrs_store *store, struct pgqrs_fire *fire,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
