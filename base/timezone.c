/* SPDX-License-Identifier: Apache-2.0 */
#include "base/timezone.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/timezone_rule.h"

#define DIRECTORY "/usr/share/zoneinfo"
#define NAME_MAX_LEN 64
#define FILE_MAX_LEN 65536 /* the largest of tzdata has 4 KiB */
#define RULE_MAX_LEN 255

#define HEADER_LEN 44
#define TYPE_LEN 6

struct transition {
    int64_t at_s;
    int32_t offset_s; /* from then on */
};

struct pgqrs_timezone {
    int32_t first_offset_s; /* before the first transition */
    bool has_rule;
    struct pgqrs_timezone_rule rule; /* from the last transition on */
    size_t count;
    struct transition transitions[]; /* ascending */
};

/* ---- the file: a block of data for times of 32 bits, one for 64 bits, and the rule ---- */

struct header {
    uint32_t is_ut, is_std, leaps, times, types, chars; /* counts */
};

static uint32_t be32(const char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return be32toh(value);
}

static uint64_t be64(const char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return be64toh(value);
}

static int broken(const char *what, struct pgqrs_error *err)
{
    (void)pgqrs_error_set(err, PGQRS_ERR_INVALID, "found %s, expected a TZif file (RFC 8536)",
                          what);
    return -1;
}

static bool take(struct pgqrs_bytes *rest, uint64_t len, const char **taken_out)
{
    if (len > rest->len) {
        return false;
    }
    *taken_out = rest->data;
    rest->data += len;
    rest->len -= len;
    return true;
}

static int take_header(struct pgqrs_bytes *rest, struct header *h, struct pgqrs_error *err)
{
    const char *at;
    if (!take(rest, HEADER_LEN, &at) || memcmp(at, "TZif", 4) != 0) {
        return broken("no header", err);
    }
    if (at[4] < '2') {
        return broken("version 1, whose times end in 2038", err);
    }
    *h = (struct header){.is_ut = be32(at + 20),
                         .is_std = be32(at + 24),
                         .leaps = be32(at + 28),
                         .times = be32(at + 32),
                         .types = be32(at + 36),
                         .chars = be32(at + 40)};
    return 0;
}

static int take_block(struct pgqrs_bytes *rest, const struct header *h, unsigned time_len,
                      const char **block_out, struct pgqrs_error *err)
{
    uint64_t len = (uint64_t)h->times * (time_len + 1) + (uint64_t)h->types * TYPE_LEN + h->chars +
                   (uint64_t)h->leaps * (time_len + 4) + h->is_std + h->is_ut;
    return take(rest, len, block_out) ? 0 : broken("an end within the data", err);
}

static int read_type(const char *types, const struct header *h, unsigned index, int32_t *offset_out,
                     struct pgqrs_error *err)
{
    if (index >= h->types) {
        return broken("a type that is not there", err);
    }
    int32_t offset = (int32_t)be32(types + (size_t)index * TYPE_LEN);
    if (offset < PGQRS_TIMEZONE_OFFSET_MIN || offset > PGQRS_TIMEZONE_OFFSET_MAX) {
        return broken("an offset of more than a day", err);
    }
    *offset_out = offset;
    return 0;
}

static int read_transitions(const char *block, const struct header *h, struct pgqrs_timezone *zone,
                            struct pgqrs_error *err)
{
    const char *indexes = block + (size_t)h->times * 8;
    const char *types = indexes + h->times;
    int64_t previous = PGQRS_TIMEZONE_FROM_EVER;
    if (read_type(types, h, 0, &zone->first_offset_s, err) < 0) {
        return -1;
    }
    for (zone->count = 0; zone->count < h->times; zone->count++) {
        struct transition *t = &zone->transitions[zone->count];
        t->at_s = (int64_t)be64(block + zone->count * 8);
        if (t->at_s <= previous || t->at_s >= PGQRS_TIMEZONE_FOR_EVER) {
            return broken("times that do not ascend", err);
        }
        previous = t->at_s;
        if (read_type(types, h, (unsigned char)indexes[zone->count], &t->offset_s, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Between two newlines; empty when there is no rule. */
static int read_rule(struct pgqrs_bytes rest, struct pgqrs_timezone *zone, struct pgqrs_error *err)
{
    char text[RULE_MAX_LEN + 1];
    const char *end = rest.len == 0 ? NULL : memchr(rest.data + 1, '\n', rest.len - 1);
    if (end == NULL || rest.data[0] != '\n' || end - rest.data > RULE_MAX_LEN ||
        memchr(rest.data, 0, (size_t)(end - rest.data)) != NULL) {
        return broken("no rule at the end", err);
    }
    size_t len = (size_t)(end - rest.data) - 1;
    memcpy(text, rest.data + 1, len);
    text[len] = 0;
    zone->has_rule = len > 0;
    return len == 0 ? 0 : pgqrs_timezone_rule_parse(text, &zone->rule, err);
}

int pgqrs_timezone_parse(struct pgqrs_bytes file, struct pgqrs_timezone **zone_out,
                         struct pgqrs_error *err)
{
    struct header h;
    const char *block = NULL;
    if (take_header(&file, &h, err) < 0 || take_block(&file, &h, 4, &block, err) < 0 ||
        take_header(&file, &h, err) < 0 || take_block(&file, &h, 8, &block, err) < 0) {
        return -1;
    }
    if (h.leaps > 0) {
        return broken("leap seconds", err);
    }
    struct pgqrs_timezone *zone = calloc(1, sizeof *zone + h.times * sizeof zone->transitions[0]);
    if (zone == NULL) {
        return pgqrs_error_memory(err);
    }
    if (read_transitions(block, &h, zone, err) < 0 || read_rule(file, zone, err) < 0) {
        free(zone);
        return -1;
    }
    *zone_out = zone;
    return 0;
}

/* ---- opening ---- */

static int check_name(const char *name, struct pgqrs_error *err)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789+-_/"; /* no dot: no way out of the directory */
    size_t len = strspn(name, allowed);
    if (len == 0 || len > NAME_MAX_LEN || name[len] != 0 || name[0] == '/') {
        return pgqrs_error_set(err, PGQRS_ERR_INVALID,
                               "found \"%.40s\", expected a name such as Europe/Berlin or UTC",
                               name);
    }
    return 0;
}

static int not_there(const char *name, int error, struct pgqrs_error *err)
{
    if (error == ENOENT && access(DIRECTORY, F_OK) < 0) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND,
                               "found \"%s\", but no time zones in %s: is tzdata installed?", name,
                               DIRECTORY);
    }
    if (error == ENOENT || error == ENOTDIR || error == EISDIR) {
        return pgqrs_error_set(err, PGQRS_ERR_NOT_FOUND,
                               "found \"%s\", which is no time zone in %s; expected a name such as "
                               "Europe/Berlin or UTC",
                               name, DIRECTORY);
    }
    return pgqrs_error_sys(err, PGQRS_ERR_FAILED, error, "read %s/%s", DIRECTORY, name);
}

/* Returns the length, or -1 and errno. */
static ssize_t read_file(const char *path, char *data, size_t size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return -1;
    }
    size_t len = 0;
    ssize_t got = -1;
    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
        errno = EISDIR;
    } else {
        while ((got = read(fd, data + len, size - len)) > 0) {
            len += (size_t)got;
        }
    }
    int error = errno;
    (void)close(fd);
    errno = error;
    return got < 0 ? -1 : (ssize_t)len;
}

static int open_utc(struct pgqrs_timezone **zone_out, struct pgqrs_error *err)
{
    struct pgqrs_timezone *zone = calloc(1, sizeof *zone);
    if (zone == NULL) {
        return pgqrs_error_memory(err);
    }
    *zone_out = zone;
    return 0;
}

int pgqrs_timezone_open(const char *name, struct pgqrs_timezone **zone_out, struct pgqrs_error *err)
{
    if (strcmp(name, "UTC") == 0) {
        return open_utc(zone_out, err);
    }
    if (check_name(name, err) < 0) {
        return -1;
    }
    char path[sizeof DIRECTORY + 1 + NAME_MAX_LEN];
    (void)snprintf(path, sizeof path, "%s/%s", DIRECTORY, name);
    char *data = malloc(FILE_MAX_LEN);
    if (data == NULL) {
        return pgqrs_error_memory(err);
    }
    int result = 0;
    ssize_t len = read_file(path, data, FILE_MAX_LEN);
    const struct pgqrs_bytes file = {.data = data, .len = len < 0 ? 0 : (size_t)len};
    if (len < 0) {
        result = not_there(name, errno, err);
    } else if (pgqrs_timezone_parse(file, zone_out, err) < 0) {
        result = pgqrs_error_prefix(err, "%s", path);
    }
    free(data);
    return result;
}

void pgqrs_timezone_close(struct pgqrs_timezone **zone)
{
    free(*zone);
    *zone = NULL;
}

/* ---- asking ---- */

/* How many transitions are at or before utc_s. */
static size_t passed(const struct pgqrs_timezone *zone, int64_t utc_s)
{
    size_t low = 0;
    size_t high = zone->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->transitions[middle].at_s <= utc_s) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct pgqrs_timezone_span pgqrs_timezone_at(const struct pgqrs_timezone *zone, int64_t utc_s)
{
    struct pgqrs_timezone_span span = {.from_s = PGQRS_TIMEZONE_FROM_EVER,
                                       .until_s = PGQRS_TIMEZONE_FOR_EVER};
    if (zone == NULL) {
        return span;
    }
    size_t index = passed(zone, utc_s);
    const struct transition *next = &zone->transitions[index];
    span.offset_s = zone->first_offset_s;
    if (index > 0) {
        span.from_s = next[-1].at_s;
        span.offset_s = next[-1].offset_s;
    }
    if (index < zone->count) {
        span.until_s = next->at_s;
    } else if (zone->has_rule) {
        struct pgqrs_timezone_span ruled = pgqrs_timezone_rule_at(&zone->rule, utc_s);
        ruled.from_s = ruled.from_s > span.from_s ? ruled.from_s : span.from_s;
        return ruled;
    }
    return span;
}
