/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_LINE_READER_H
#define PGQRS_CLI_LINE_READER_H

/* Lines of a descriptor, each in memory at once but never more than a limit. */

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct pgqrs_line_reader {
    int fd;
    uint64_t number; /* of the line that was read last, from 1 */
    size_t at, end;  /* of what is in block */
    char block[64 * 1024];
};

/*
 * 1: line_out holds the next line without its end; the last one needs none. 0: no more. -1: it can
 * not be read, or is longer than max.
 */
int pgqrs_line_read(struct pgqrs_line_reader *r, size_t max, struct pgqrs_buf *line_out,
                    struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
