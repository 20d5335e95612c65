/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_SQLITE_SCHEMA_H
#define PGQRS_STORE_SQLITE_SCHEMA_H

/* The parts of the schema that installing writes and verifying looks for. */

#include "store/sqlite/sqlite_priv.h"

#define PGQRS_SQLITE_SCHEMA_VERSION 3 /* 1: no unique keys, no paused queues; 2: no workflows */

/* A row of the ledger in which pgqrs' clients note what they have installed. */
struct sqlite_migration {
    int version;
    const char *description;
    const char *checksum; /* hexadecimal */
};
extern const struct sqlite_migration pgqrs_sqlite_ledger[];
extern const size_t pgqrs_sqlite_ledger_count;

/* A column that we add to one of pgqrs' tables. */
struct sqlite_column {
    const char *table;
    const char *name;
    const char *type;
};
extern const struct sqlite_column pgqrs_sqlite_columns[];
extern const size_t pgqrs_sqlite_column_count;

/* Whether a query with up to two text parameters gives a row: 1, 0, or -1. b may be null. */
int pgqrs_sqlite_has(struct sqlite_store *s, const char *sql, const char *a, const char *b,
                     struct pgqrs_error *err);

/* These say PGQRS_ERR_SCHEMA with what was found and expected. Not complete: gaps are in order. */
int pgqrs_sqlite_check_ledger(struct sqlite_store *s, bool complete, struct pgqrs_error *err);
int pgqrs_sqlite_check_version(struct sqlite_store *s, bool complete, struct pgqrs_error *err);
int pgqrs_sqlite_check_columns(struct sqlite_store *s, struct pgqrs_error *err);

#endif
