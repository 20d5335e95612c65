/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_delete.h"

#include <stdlib.h>

#include "store/postgres/pg_text.h"

int pgqrs_pg_ids(const PGresult *result, struct pg_ids *ids_out, struct pgqrs_error *err)
{
    size_t count = (size_t)PQntuples(result);
    int64_t *items = malloc((count + 1) * sizeof *items);
    if (items == NULL) {
        return pgqrs_error_memory(err);
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = pgqrs_pg_int(result, (int)i, 0);
    }
    *ids_out = (struct pg_ids){.items = items, .count = count};
    return 0;
}

void pgqrs_pg_ids_fini(struct pg_ids *ids)
{
    free(ids->items);
    *ids = (struct pg_ids){0};
}

void pgqrs_pg_arg_ids(struct pg_args *args, const int64_t *ids, size_t count)
{
    pgqrs_pg_arg_array_begin(args, PG_INT8, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int8(args, ids[i]);
    }
    pgqrs_pg_arg_array_end(args);
}

/* The foreign key is checked when the statement is over: by then the runs are gone. */
static const struct pg_stmt delete_all = {
    .name = "messages_delete",
    .sql = "WITH runs AS (DELETE FROM pgqrs_workflow_runs WHERE message_id = ANY($1))"
           " DELETE FROM pgqrs_messages WHERE id = ANY($1)",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};
static const struct pg_stmt delete_finished = {
    .name = "messages_delete_finished",
    .sql = "WITH runs AS (DELETE FROM pgqrs_workflow_runs"
           " WHERE message_id = ANY($1) AND NOT (" PG_RUN_UNFINISHED(
               "status") "))"
                         " DELETE FROM pgqrs_messages WHERE id = ANY($1) AND id <> "
                         "ALL(ARRAY(SELECT message_id"
                         " FROM pgqrs_workflow_runs WHERE message_id = ANY($1)"
                         " AND " PG_RUN_UNFINISHED("status") "))",
    .param_count = 1,
    .types = {PG_INT8_ARRAY},
};

int64_t pgqrs_pg_delete_messages(struct pg_store *s, const int64_t *ids, size_t count,
                                 bool finished_only, struct pgqrs_error *err)
{
    if (count == 0) {
        return 0;
    }
    struct pg_args args = {0};
    pgqrs_pg_arg_ids(&args, ids, count);
    int64_t gone = pgqrs_pg_exec(s, finished_only ? &delete_finished : &delete_all, &args, err);
    pgqrs_pg_args_fini(&args);
    return gone;
}
