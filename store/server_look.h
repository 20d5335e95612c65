/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_SERVER_LOOK_H
#define PGQRS_STORE_SERVER_LOOK_H

/* What people want to know about a PostgreSQL server before they trust pgqrsd to it, on a
 * connection that is closed again. Nothing is changed. */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define PGQRS_SERVER_DSN_MAX 512

struct pgqrs_server_look {
    bool pooled;       /* a pooler hands out its connections: nothing is heard through it */
    bool served;       /* the site's broker is connected */
    bool may_create;   /* tables in the schema, or the schema */
    bool read_only;    /* nothing can be written: a standby, or it is set so */
    char denied[64];   /* one of our tables that this user may not use; empty: none is */
    int64_t room;      /* connections that this user may open besides those that there are */
    char room_of[160]; /* what sets the bound, such as "max_connections, 100" */
    /* Of the server, past a pooler, without a password; empty: it can not be told. */
    char direct_dsn[PGQRS_SERVER_DSN_MAX];
};

/* site: the host's name, a slash, and pgqrsd's. */
int pgqrs_server_look(const char *dsn, const char *schema, const char *site,
                      struct pgqrs_server_look *out, struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
