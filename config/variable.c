/* SPDX-License-Identifier: Apache-2.0 */
#include "config/variable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/locate.h"
#include "ipc/msg.h"

#define ROOM (PGQRS_DSN_MAX + 16) /* and the end of the line */

static const char *value_of(const char *name)
{
    const char *value = getenv(name);
    return value == NULL || *value == 0 ? NULL : value;
}

static int fail_file(const struct pgqrs_variable *v, struct pgqrs_error *err, const char *what)
{
    return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "%s: %.250s: %s", v->name, v->file, what);
}

static int fail_call(const struct pgqrs_variable *v, struct pgqrs_error *err, int code)
{
    return pgqrs_error_sys(err, PGQRS_ERR_CONFIG, code, "%s: %.250s", v->name, v->file);
}

/* Through links, which files of a Kubernetes secret are. */
static int open_private(const struct pgqrs_variable *v, struct pgqrs_error *err)
{
    struct stat st;
    const char *why = NULL;
    int fd = open(v->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is none of our files */
    if (fd < 0 || fstat(fd, &st) < 0) {
        int code = errno;
        (void)fail_call(v, err, code);
        if (fd >= 0) {
            (void)close(fd);
        }
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        why = "found a directory or device, expected a file";
    } else if ((st.st_mode & S_IRWXO) != 0) {
        why = "found a file that everybody may use, expected one of mode 0640 or less, "
              "as chmod o= makes it";
    }
    if (why != NULL) {
        (void)close(fd);
        return fail_file(v, err, why);
    }
    return fd;
}

static int read_file(struct pgqrs_variable *v, struct pgqrs_error *err)
{
    char text[ROOM];
    size_t len = 0;
    ssize_t n = 1;
    int fd = open_private(v, err);
    if (fd < 0) {
        return -1;
    }
    while (n > 0 && len < sizeof text - 1) {
        n = read(fd, text + len, sizeof text - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    int code = n < 0 ? errno : 0;
    (void)close(fd);
    if (code != 0) {
        return fail_call(v, err, code);
    }
    bool whole = memchr(text, 0, len) == NULL;
    text[len] = 0;
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) {
        text[--len] = 0;
    }
    if (len == 0) {
        return fail_file(v, err, "found nothing, expected " PGQRS_EXPECTED_DSN);
    }
    if (!whole || len > PGQRS_DSN_MAX || strpbrk(text, "\r\n") != NULL) {
        return fail_file(v, err,
                         "found more than a line of 8192 bytes, expected " PGQRS_EXPECTED_DSN);
    }
    v->text = strdup(text);
    return v->text == NULL ? pgqrs_error_memory(err) : 0;
}

int pgqrs_variable_read(const char *name, bool may_be_file, struct pgqrs_variable *out,
                        struct pgqrs_error *err)
{
    char file_name[sizeof out->name];
    const char *text = value_of(name);
    (void)snprintf(file_name, sizeof file_name, "%s_FILE", name);
    const char *file = may_be_file ? value_of(file_name) : NULL;
    *out = (struct pgqrs_variable){.file = file};
    (void)snprintf(out->name, sizeof out->name, "%s", file == NULL ? name : file_name);
    if (file != NULL && text != NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "%s: found %s too, expected one of the two",
                               file_name, name);
    }
    if (file != NULL) {
        return read_file(out, err);
    }
    out->text = text == NULL ? NULL : strdup(text);
    return text != NULL && out->text == NULL ? pgqrs_error_memory(err) : 0;
}

void pgqrs_variable_fini(struct pgqrs_variable *variable)
{
    free(variable->text);
    *variable = (struct pgqrs_variable){0};
}

int pgqrs_variable_refused(const struct pgqrs_variable *variable, struct pgqrs_error *err)
{
    if (variable->file != NULL) {
        return fail_file(variable, err, "found something else, expected " PGQRS_EXPECTED_DSN);
    }
    return pgqrs_error_prefix(err, "%s", variable->name);
}
