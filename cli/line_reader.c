/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/line_reader.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* 1: there is something in the block. 0: the end. */
static int fill(struct pgqrs_line_reader *r, struct pgqrs_error *err)
{
    if (r->at < r->end) {
        return 1;
    }
    ssize_t n;
    do {
        n = read(r->fd, r->block, sizeof r->block);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "can not be read");
    }
    r->at = 0;
    r->end = (size_t)n;
    return n > 0;
}

int pgqrs_line_read(struct pgqrs_line_reader *r, size_t max, struct pgqrs_buf *line_out,
                    struct pgqrs_error *err)
{
    const char *newline = NULL;
    bool begun = false;
    pgqrs_buf_clear(line_out);
    while (newline == NULL) {
        int rc = fill(r, err);
        if (rc < 0 || (rc == 0 && !begun)) {
            return rc;
        }
        if (rc == 0) {
            break;
        }
        if (!begun) {
            begun = true;
            r->number++;
        }
        const char *from = r->block + r->at;
        newline = memchr(from, '\n', r->end - r->at);
        size_t n = newline != NULL ? (size_t)(newline - from) : r->end - r->at;
        pgqrs_buf_put(line_out, from, n);
        r->at += n + (newline != NULL);
        if (line_out->len > max) {
            return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                                   "found more than %zu bytes, expected a shorter line", max);
        }
        if (line_out->failed) {
            return pgqrs_error_memory(err);
        }
    }
    return 1;
}
