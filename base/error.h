/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_ERROR_H
#define PGQRS_BASE_ERROR_H

/*
 * Why a call failed, as a value. Library code fills one and returns -1; programs log it, once.
 * An error is written only on failure, outputs only on success.
 */

#include <stdarg.h>
#include <stddef.h>

#define PGQRS_MUST_CHECK __attribute__((warn_unused_result))
#define PGQRS_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

enum pgqrs_err {
    PGQRS_ERR_NONE = 0,
    PGQRS_ERR_FAILED,      /* nothing was changed; trying again will not help */
    PGQRS_ERR_AGAIN,       /* nothing was changed; the same call may work later (busy, disk full) */
    PGQRS_ERR_UNKNOWN,     /* the outcome is unknown: it may have been carried out */
    PGQRS_ERR_INVALID,     /* the caller's input: bad payload, bad name, bad argument */
    PGQRS_ERR_NOT_FOUND,   /* the thing named does not exist */
    PGQRS_ERR_EXISTS,      /* the thing to be created exists already */
    PGQRS_ERR_CONFLICT,    /* the thing is not in a state that allows this */
    PGQRS_ERR_CONFIG,      /* the configuration is wrong */
    PGQRS_ERR_UNAVAILABLE, /* the store can not be opened: read-only, not a database, no permission
                            */
    PGQRS_ERR_SCHEMA,      /* the store's schema is not one this program can use */
    PGQRS_ERR_PROTOCOL,    /* a peer sent something that is not in the protocol */
    PGQRS_ERR_MEMORY,
    PGQRS_ERR_COUNT
};

struct pgqrs_error {
    enum pgqrs_err code;
    int sys_errno; /* 0: no system call was at fault */
    char text[512];
};

/* All three accept a null err and return -1, so that a caller can `return pgqrs_error_set(...)`. */
int pgqrs_error_set(struct pgqrs_error *err, enum pgqrs_err code, const char *fmt, ...)
    PGQRS_PRINTF(3, 4);
/* Appends ": " and the description of sys_errno. */
int pgqrs_error_sys(struct pgqrs_error *err, enum pgqrs_err code, int sys_errno, const char *fmt,
                    ...) PGQRS_PRINTF(4, 5);
/* Puts "<prefix>: " before the text that is there. */
int pgqrs_error_prefix(struct pgqrs_error *err, const char *fmt, ...) PGQRS_PRINTF(2, 3);
int pgqrs_error_memory(struct pgqrs_error *err);

#endif
