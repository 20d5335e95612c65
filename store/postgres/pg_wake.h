/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_POSTGRES_WAKE_H
#define PGQRS_STORE_POSTGRES_WAKE_H

/*
 * The second connection, which listens. Nobody waits for it: its socket is watched through an epoll
 * descriptor, and every call takes it one step further. While it is down, who polls sees all the
 * same.
 */

#include "store/postgres/pg_conn.h"

/* Connects, and waits for that once, so that what is wrong with it is told. */
int pgqrs_pg_wake_open(struct pg_store *s, const char *dsn, struct pgqrs_error *err);
void pgqrs_pg_wake_close(struct pg_store *s); /* accepts one that is not open */
/* The lock of the broker of s->site. PGQRS_ERR_UNAVAILABLE: somebody else has it. */
int pgqrs_pg_wake_claim(struct pg_store *s, struct pgqrs_error *err);
/* Whether it listens, or will again. */
bool pgqrs_pg_wake_works(const struct pg_store *s);

#endif
