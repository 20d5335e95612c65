/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_POSTGRES_SCHEMA_H
#define PGQRS_STORE_POSTGRES_SCHEMA_H

/* The parts of the schema, for who makes it and who looks whether it is there. */

#include "store/postgres/pg_conn.h"

enum { PG_SCHEMA_VERSION = 2 }; /* 1: no workflows */

/* A migration of pgqrs: its row in the ledger, and what makes the same objects. */
struct pg_migration {
    int version;
    const char *description;
    const char *checksums[2]; /* hexadecimal; we write the first, and accept both */
    const char *ddl;
};
extern const struct pg_migration pgqrs_pg_migrations[];
extern const size_t pgqrs_pg_migration_count;

struct pg_index {
    const char *name;
    const char *unique; /* "UNIQUE " or "" */
    const char *table;
    const char *what; /* columns and predicate */
};
extern const struct pg_index pgqrs_pg_indexes[];
extern const size_t pgqrs_pg_index_count;

/* It calls the function of its name. */
struct pg_trigger {
    const char *name;
    const char *when;
};
extern const struct pg_trigger pgqrs_pg_triggers[];
extern const size_t pgqrs_pg_trigger_count;

extern const char pgqrs_pg_ddl_ledger[];
extern const char pgqrs_pg_ddl_tables[];  /* our own tables */
extern const char pgqrs_pg_ddl_labels[];  /* those that the older of the two checksums lacks */
extern const char pgqrs_pg_ddl_columns[]; /* our own */
extern const char pgqrs_pg_ddl_functions[];
extern const char pgqrs_pg_ddl_flow_functions[]; /* pg_ddl_flow.c: those of workflows */
extern const char pgqrs_pg_ddl_settings[];       /* of the tables */

/* One statement: a row for each thing that is missing or not as it must be, as text. */
extern const struct pg_stmt pgqrs_pg_verify_stmt;

/* Every row of the ledger, if there is one, is one that we know. Complete: and all are there. The
 * bits of *have_out tell which of the migrations are. */
int pgqrs_pg_check_ledger(struct pg_store *s, bool complete, unsigned *have_out,
                          struct pgqrs_error *err);
/* 0: there is no version of ours yet. */
int64_t pgqrs_pg_check_version(struct pg_store *s, struct pgqrs_error *err);
/* PGQRS_ERR_SCHEMA names the first thing that is missing. */
int pgqrs_pg_check_objects(struct pg_store *s, struct pgqrs_error *err);

#endif
