/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_exchange.h"

#include <stdlib.h>

/*
 * Nobody is notified here: the table's trigger does that, for everybody who inserts.
 *
 * Items without a key go in one statement; ids follow the order of the arrays, since the rows of a
 * function scan are inserted as they come. Items with a key go one by one: each may find a holder.
 */

#define KEY_TRIES 10

#define INSERT_INTO                                                                                \
    "INSERT INTO pgqrs_messages (queue_id, payload, vt, enqueued_at, read_ct, pgqrsd_priority,"    \
    " producer_worker_id"
#define VALUES(payload, delay, at, priority, producer)                                             \
    ", " payload ", coalesce(" PGQRS_PG_TIME(at) ", pgqrsd_now() + " PG_MS(                        \
        delay) "), pgqrsd_now(), 0, " priority ", " producer
#define MANY_VALUES VALUES("u.payload", "u.delay", "u.at", "u.priority", "u.producer")
#define MANY " FROM unnest($2, $3, $4, $5, $6) AS u(payload, delay, at, priority, producer)"
#define IN_QUEUE " WHERE EXISTS (SELECT 1 FROM pgqrs_queues WHERE id = $1)"
#define UNLESS_HELD                                                                                \
    " ON CONFLICT (queue_id, pgqrsd_unique_key) WHERE archived_at IS NULL"                         \
    " AND pgqrsd_unique_key IS NOT NULL DO NOTHING"
#define MANY_TYPES PG_JSONB_ARRAY, PG_INT8_ARRAY, PG_INT8_ARRAY, PG_INT4_ARRAY, PG_INT8_ARRAY

/* $1 queue, then arrays: $2 payloads, $3 delays in ms, $4 times in us or NULL, $5 priorities, $6
 * producers or NULL. */
const struct pg_stmt pgqrs_pg_insert_many = {
    .name = "insert_many",
    .sql = INSERT_INTO ") SELECT $1" MANY_VALUES MANY IN_QUEUE " RETURNING id",
    .param_count = 6,
    .types = {PG_INT8, MANY_TYPES},
};
/* $1 names of queues, or a reference to none, which fails; $2 to $6 as above, $7 keys or NULL. */
static const struct pg_stmt insert_follow_ups = {
    .name = "insert_follow_ups",
    .sql = INSERT_INTO ", pgqrsd_unique_key) SELECT coalesce((SELECT id FROM pgqrs_queues WHERE"
                       " queue_name = u.queue), 0)" MANY_VALUES ", u.key FROM unnest($2, $3, $4,"
                       " $5, $6, $1, $7) AS u(payload, delay, at, priority, producer, queue,"
                       " key)" UNLESS_HELD,
    .param_count = 7,
    .types = {PG_TEXT_ARRAY, MANY_TYPES, PG_TEXT_ARRAY},
};
/* One, with $7 its key. No row: somebody holds the key, or there is no such queue. */
static const struct pg_stmt insert_unique = {
    .name = "insert_unique",
    .sql = INSERT_INTO ", pgqrsd_unique_key) SELECT $1" VALUES(
        "$2", "$3", "$4", "$5", "$6") ", $7" IN_QUEUE UNLESS_HELD " RETURNING id",
    .param_count = 7,
    .types = {PG_INT8, PG_JSONB, PG_INT8, PG_INT8, PG_INT4, PG_INT8, PG_TEXT},
};
static const struct pg_stmt find_key = {
    .name = "find_key",
    .sql = "SELECT id FROM pgqrs_messages WHERE queue_id = $1 AND pgqrsd_unique_key = $2"
           " AND archived_at IS NULL",
    .param_count = 2,
    .types = {PG_INT8, PG_TEXT},
};
static const struct pg_stmt queue_there = {
    .name = "queue_there",
    .sql = "SELECT 1 FROM pgqrs_queues WHERE id = $1",
    .param_count = 1,
    .types = {PG_INT8},
};

/* The last of the year 9999 is late enough, and an interval's arithmetic goes no further. */
static int64_t in_range(int64_t us)
{
    const int64_t most = INT64_C(253402300799999999);
    return us > most ? most : us;
}

static int no_queue(int64_t queue_id, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND, "queue %lld: there is none",
                           (long long)queue_id);
}

static void put_optional(struct pg_args *args, int64_t value)
{
    if (value == 0) {
        pgqrs_pg_arg_null(args);
    } else {
        pgqrs_pg_arg_int8(args, value);
    }
}

static void put_items(struct pg_args *args, const struct pgqrs_enqueue *items, size_t count)
{
    const struct pgqrs_bytes none = {0};
    pgqrs_pg_arg_array_begin(args, PG_JSONB, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_bytes(args, items[i].payload, true);
    }
    pgqrs_pg_arg_array_end(args);
    pgqrs_pg_arg_array_begin(args, PG_INT8, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int8(args, items[i].delay_ms);
    }
    pgqrs_pg_arg_array_end(args);
    pgqrs_pg_arg_array_begin(args, PG_INT8, count);
    for (size_t i = 0; i < count; i++) {
        if (items[i].at_us == 0) {
            pgqrs_pg_arg_array_bytes(args, none, false);
        } else {
            pgqrs_pg_arg_array_int8(args, in_range(items[i].at_us));
        }
    }
    pgqrs_pg_arg_array_end(args);
    pgqrs_pg_arg_array_begin(args, PG_INT4, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int4(args, items[i].priority);
    }
    pgqrs_pg_arg_array_end(args);
    pgqrs_pg_arg_array_begin(args, PG_INT8, count);
    for (size_t i = 0; i < count; i++) {
        if (items[i].producer_worker_id == 0) {
            pgqrs_pg_arg_array_bytes(args, none, false);
        } else {
            pgqrs_pg_arg_array_int8(args, items[i].producer_worker_id);
        }
    }
    pgqrs_pg_arg_array_end(args);
}

static int insert_many(struct pg_store *s, int64_t queue_id, const struct pgqrs_enqueue *items,
                       size_t count, int64_t *ids_out, struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, queue_id);
    put_items(&args, items, count);
    PGresult *rows = pgqrs_pg_run(s, &pgqrs_pg_insert_many, &args, false, err);
    pgqrs_pg_args_fini(&args);
    if (rows == NULL) {
        return -1;
    }
    int64_t got = pgqrs_pg_count(rows);
    for (int64_t i = 0; i < got && i < (int64_t)count; i++) {
        ids_out[i] = pgqrs_pg_int(rows, (int)i, 0);
    }
    PQclear(rows);
    return got == (int64_t)count ? 0 : no_queue(queue_id, err);
}

/* The id in the first row, 0 when there is none, -1. */
static int64_t one_id(struct pg_store *s, const struct pg_stmt *stmt, struct pg_args *args,
                      struct pgqrs_error *err)
{
    PGresult *rows = pgqrs_pg_run(s, stmt, args, false, err);
    pgqrs_pg_args_fini(args);
    if (rows == NULL) {
        return -1;
    }
    int64_t id = PQntuples(rows) > 0 ? pgqrs_pg_int(rows, 0, 0) : 0;
    PQclear(rows);
    return id;
}

static int64_t try_unique(struct pg_store *s, int64_t queue_id, const struct pgqrs_enqueue *item,
                          struct pgqrs_error *err)
{
    struct pg_args args = {0};
    pgqrs_pg_arg_int8(&args, queue_id);
    pgqrs_pg_arg_bytes(&args, item->payload, true);
    pgqrs_pg_arg_int8(&args, item->delay_ms);
    put_optional(&args, in_range(item->at_us));
    pgqrs_pg_arg_int4(&args, item->priority);
    put_optional(&args, item->producer_worker_id);
    pgqrs_pg_arg_text(&args, item->unique_key);
    return one_id(s, &insert_unique, &args, err);
}

/* The holder may end between the two statements: then there is room for this one. */
static int insert_unique_one(struct pg_store *s, int64_t queue_id, const struct pgqrs_enqueue *item,
                             int64_t *id_out, bool *existed_out, struct pgqrs_error *err)
{
    for (int i = 0; i < KEY_TRIES; i++) {
        int64_t id = try_unique(s, queue_id, item, err);
        *existed_out = id == 0;
        if (id == 0) {
            struct pg_args args = {0};
            pgqrs_pg_arg_int8(&args, queue_id);
            pgqrs_pg_arg_text(&args, item->unique_key);
            id = one_id(s, &find_key, &args, err);
        }
        if (id != 0) {
            *id_out = id;
            return id < 0 ? -1 : 0;
        }
        struct pg_args args = {0};
        pgqrs_pg_arg_int8(&args, queue_id);
        int64_t there = one_id(s, &queue_there, &args, err);
        if (there <= 0) {
            return there < 0 ? -1 : no_queue(queue_id, err);
        }
    }
    return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "unique key: its holders change all the time");
}

int pgqrs_pg_insert(struct pg_store *s, int64_t queue_id, const struct pgqrs_enqueue *items,
                    size_t count, int64_t *ids_out, bool *existed_out, struct pgqrs_error *err)
{
    size_t i = 0;
    while (i < count) {
        size_t plain = 0;
        while (i + plain < count && items[i + plain].unique_key == NULL) {
            plain++;
        }
        if (plain > 0 && insert_many(s, queue_id, &items[i], plain, &ids_out[i], err) < 0) {
            return -1;
        }
        for (size_t k = 0; existed_out != NULL && k < plain; k++) {
            existed_out[i + k] = false;
        }
        i += plain;
        bool existed = false;
        if (i < count) {
            if (insert_unique_one(s, queue_id, &items[i], &ids_out[i], &existed, err) < 0) {
                return -1;
            }
            if (existed_out != NULL) {
                existed_out[i] = existed;
            }
            i++;
        }
    }
    return 0;
}

static void put_texts(struct pg_args *args, const struct pgqrs_follow_up *const *follow_ups,
                      size_t count, bool keys)
{
    pgqrs_pg_arg_array_begin(args, PG_TEXT, count);
    for (size_t i = 0; i < count; i++) {
        const char *text = keys ? follow_ups[i]->item.unique_key : follow_ups[i]->queue;
        struct pgqrs_bytes bytes = {0};
        if (text != NULL) {
            bytes = pgqrs_bytes_from(text);
        }
        pgqrs_pg_arg_array_bytes(args, bytes, false);
    }
    pgqrs_pg_arg_array_end(args);
}

int pgqrs_pg_add_follow_ups(struct pg_batch *batch, const struct pgqrs_follow_up *const *follow_ups,
                            size_t count, struct pgqrs_error *err)
{
    struct pg_args *args = pgqrs_pg_batch_add(batch, &insert_follow_ups);
    struct pgqrs_enqueue *items = calloc(count, sizeof *items);
    if (args == NULL || items == NULL) {
        free(items);
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = follow_ups[i]->item;
    }
    put_texts(args, follow_ups, count, false);
    put_items(args, items, count);
    put_texts(args, follow_ups, count, true);
    free(items);
    return 0;
}

int pgqrs_pg_enqueue(struct pgqrs_store *store, int64_t queue_id, const struct pgqrs_enqueue *items,
                     size_t count, int64_t *ids_out, bool *existed_out, struct pgqrs_error *err)
{
    struct pg_store *s = pg_of(store);
    bool one_statement = true;
    for (size_t i = 0; i < count; i++) {
        one_statement = one_statement && items[i].unique_key == NULL;
    }
    if (one_statement) {
        return pgqrs_pg_insert(s, queue_id, items, count, ids_out, existed_out, err);
    }
    if (pgqrs_pg_begin(s, err) < 0) {
        return -1;
    }
    int rc = pgqrs_pg_insert(s, queue_id, items, count, ids_out, existed_out, err);
    return (int)pgqrs_pg_end(s, rc, err);
}
