/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_POSTGRES_DELETE_H
#define PGQRS_STORE_POSTGRES_DELETE_H

/*
 * Deleting messages with the workflow runs they started, and runs of ids. Rows are chosen and
 * locked by one statement and changed by the next: only what was locked is known to stay as it was,
 * and only a statement that begins after it sees what others had committed until then.
 */

#include "store/postgres/pg_priv.h"

struct pg_ids {
    int64_t *items;
    size_t count;
};

/* The first column of a result. Free with pgqrs_pg_ids_fini. */
int pgqrs_pg_ids(const PGresult *result, struct pg_ids *ids_out, struct pgqrs_error *err);
void pgqrs_pg_ids_fini(struct pg_ids *ids);
void pgqrs_pg_arg_ids(struct pg_args *args, const int64_t *ids, size_t count);

/* Inside a transaction that has locked the messages. finished_only: messages of unfinished runs
 * stay. Returns how many messages went. */
int64_t pgqrs_pg_delete_messages(struct pg_store *s, const int64_t *ids, size_t count,
                                 bool finished_only, struct pgqrs_error *err);

#endif
