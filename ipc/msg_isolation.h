/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_IPC_MSG_ISOLATION_H
#define PGQRS_IPC_MSG_ISOLATION_H

/* What a worker takes from itself before it loads its plugin: a part of its welcome. */

#include "base/bytes.h"

struct pgqrs_isolation {
    uint32_t uid, gid;                        /* uid 0: the user stays; gid goes with it */
    const char *directory;                    /* to work in; empty: stays */
    uint32_t nice;                            /* added */
    int64_t open_files, processes, file_size; /* limits; 0: stay */
    int64_t memory; /* bytes beyond what the worker itself has; 0: no limit */
    int64_t core;   /* bytes, when limit_core is 1 */
    uint8_t limit_core, no_new_privileges, seccomp; /* each 0 or 1 */
};

#define PGQRS_ISOLATION_MIN 60 /* bytes on the wire, with an empty directory */

void pgqrs_put_isolation(struct pgqrs_buf *out, const struct pgqrs_isolation *m);
void pgqrs_read_isolation(struct pgqrs_reader *r, struct pgqrs_isolation *m);

#endif
