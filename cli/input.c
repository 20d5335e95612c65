/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "store/payload.h"

#define EXCERPT 40 /* bytes of what was found */

int pgqrs_input_read(const char *path, struct pgqrs_buf *out, struct pgqrs_error *err)
{
    int fd = path == NULL ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    int code = errno;
    bool memory = true;
    while (n > 0 && out->len <= PGQRS_INPUT_MAX) {
        void *to = pgqrs_buf_reserve(out, 64 * 1024);
        memory = to != NULL;
        if (!memory) {
            break;
        }
        n = read(fd, to, 64 * 1024);
        code = errno;
        out->len += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0 && path != NULL) {
        (void)close(fd);
    }
    if (!memory) {
        return pgqrs_error_memory(err);
    }
    if (n < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, code, "can not be read");
    }
    if (out->len > PGQRS_INPUT_MAX) {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID, "found more than %u bytes, expected fewer",
                               PGQRS_INPUT_MAX);
    }
    return 0;
}

int pgqrs_input_json(const char *word, struct pgqrs_buf *out)
{
    bool standard = strcmp(word, "-") == 0;
    bool file = word[0] == '@' || standard;
    struct pgqrs_buf read = {0};
    struct pgqrs_bytes text = pgqrs_bytes_from(word);
    struct pgqrs_error err;
    int rc = 0;
    if (file) {
        rc = pgqrs_input_read(standard ? NULL : word + 1, &read, &err);
        text = (struct pgqrs_bytes){.data = (const char *)read.data, .len = read.len};
    }
    if (rc == 0 && pgqrs_payload_normalise(text, out, &err) < 0) {
        char excerpt[EXCERPT + 1];
        (void)snprintf(excerpt, sizeof excerpt, "%.*s",
                       (int)(text.len < EXCERPT ? text.len : EXCERPT),
                       text.len > 0 ? text.data : "");
        rc = pgqrs_error_prefix(&err, "found \"%s\"", excerpt);
    }
    pgqrs_buf_fini(&read);
    if (rc == 0) {
        return PGQRS_CLI_OK;
    }
    if (file) {
        (void)pgqrs_error_prefix(&err, "%s", standard ? "standard input" : word + 1);
    }
    return pgqrs_cli_fail(&err);
}

int pgqrs_input_of_run(const char *word, struct pgqrs_buf *out)
{
    size_t most = PGQRS_ENQUEUE_MAX - strlen("{\"input\": }");
    int status = pgqrs_input_json(word, out);
    if (status == PGQRS_CLI_OK && out->len > most) {
        pgqrs_cli_error("input: found %zu bytes without white space, expected at most %zu",
                        out->len, most);
        return PGQRS_CLI_FAILURE;
    }
    return status;
}
