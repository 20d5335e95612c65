/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_STORE_BORROW_H
#define PGQRS_STORE_STORE_BORROW_H

/*
 * A store on a connection that belongs to somebody else, for enqueueing inside their transaction:
 * what a call does is committed or rolled back with it. A call that fails leaves the transaction as
 * it was before the call (savepoints); outside a transaction each call is its own. Settings of the
 * connection are not changed. Closing the store leaves the connection open. The schema must be
 * installed. Names of the libraries' handles are theirs, so that this header needs none of theirs.
 */

#include "store/store.h"

struct sqlite3; /* sqlite3 */
struct pg_conn; /* PGconn */

int pgqrs_store_borrow_sqlite(struct sqlite3 *db, struct pgqrs_store **store_out,
                              struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* schema: null: whatever the connection's search_path finds. */
int pgqrs_store_borrow_postgres(struct pg_conn *conn, const char *schema,
                                struct pgqrs_store **store_out,
                                struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
