/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdio.h>
#include <string.h>

static void __attribute__((format(printf, 4, 0)))
fill(struct pgqrs_error *err, enum pgqrs_err code, int sys_errno, const char *fmt, va_list args)
{
    char text[sizeof err->text];
    int n = vsnprintf(text, sizeof text, fmt, args);
    size_t used = n < 0 ? 0 : (size_t)n;

    if (sys_errno != 0 && used < sizeof text) {
        char description[128];
        /* The GNU variant: the result may or may not be the buffer. */
        const char *what = strerror_r(sys_errno, description, sizeof description);
        (void)snprintf(text + used, sizeof text - used, ": %s", what); /* a cut text is still one */
    }
    err->code = code;
    err->sys_errno = sys_errno;
    memcpy(err->text, text, sizeof text);
}

int pgqrs_error_set(struct pgqrs_error *err, enum pgqrs_err code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, fmt);
        fill(err, code, 0, fmt, args);
        va_end(args);
    }
    return -1;
}

int pgqrs_error_sys(struct pgqrs_error *err, enum pgqrs_err code, int sys_errno, const char *fmt,
                    ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, fmt);
        fill(err, code, sys_errno, fmt, args);
        va_end(args);
    }
    return -1;
}

int pgqrs_error_prefix(struct pgqrs_error *err, const char *fmt, ...)
{
    if (err != NULL) {
        char text[sizeof err->text];
        va_list args;
        va_start(args, fmt);
        int n = vsnprintf(text, sizeof text, fmt, args);
        va_end(args);
        size_t used = n < 0 ? 0 : (size_t)n;
        if (used < sizeof text) {
            (void)snprintf(text + used, sizeof text - used, ": %s", err->text);
        }
        memcpy(err->text, text, sizeof text);
    }
    return -1;
}

int pgqrs_error_memory(struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_MEMORY, "out of memory");
}
