/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the store itself, and of what it stands on. */
#include "cli/doctor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "cli/runs.h"

#define SKEW_US INT64_C(2000000)
#define ROOM_ENOUGH (UINT64_C(4) << 30) /* whatever the size of the disk */
#define ROOM_SHARE 20                   /* less than 1 / 20 of it is little */

int pgqrs_check_schema(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    int rc;
    PGQRS_RUN_TRY(rc, err, pgqrs_store_verify(d->cli->store, err));
    if (rc == 0 || err->code != PGQRS_ERR_SCHEMA) {
        return rc;
    }
    d->schema_is_bad = true;
    pgqrs_doctor_found(d, PGQRS_SEVERITY_ERROR, "%s", err->text);
    pgqrs_doctor_mend(d, "pgqrs admin install");
    return 0;
}

/* ---- the clock ---- */

/* Also reads what time it is there. */
int pgqrs_check_clock(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    struct pgqrs_queue_metrics m = {0};
    char took[PGQRS_TOOK_SIZE];
    int64_t before_us = 0;
    int64_t ahead_us;
    int rc;
    PGQRS_RUN_TRY(
        rc, err,
        (before_us = pgqrs_wall_us(), pgqrs_store_queue_metrics(d->cli->store, 0, 1, &m, err)));
    if (rc < 0) {
        return -1;
    }
    d->now_us = m.now_us;
    ahead_us = m.now_us - pgqrs_wall_us();
    if (ahead_us <= SKEW_US && before_us - m.now_us <= SKEW_US) {
        return 0;
    }
    pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING, "the store's clock is %s %s this machine's",
                       pgqrs_took(ahead_us > 0 ? ahead_us : before_us - m.now_us, took),
                       ahead_us > 0 ? "ahead of" : "behind");
    pgqrs_doctor_mend(d, "timedatectl set-ntp true, here and on the machine of the store");
    return 0;
}

/* ---- the disk below an SQLite database ---- */

/* The path in the DSN; null when there is no file. Free it. */
static char *find_file(const char *dsn)
{
    const char *path = strncmp(dsn, "sqlite://", 9) == 0 ? dsn + 9 : dsn + 7;
    return strncmp(dsn, "sqlite:", 7) != 0 || *path == ':' ? NULL
                                                           : strndup(path, strcspn(path, "?"));
}

void pgqrs_doctor_tell_disk(struct pgqrs_doctor *d, const char *path)
{
    struct statvfs disk;
    char word[PGQRS_SHELL_WORD_SIZE];
    if (statvfs(path, &disk) < 0) {
        return;
    }
    uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
    uint64_t size = (uint64_t)disk.f_blocks * disk.f_frsize;
    if (room < ROOM_ENOUGH && room < size / ROOM_SHARE) {
        pgqrs_doctor_found(d, PGQRS_SEVERITY_ERROR,
                           "the disk of %s is nearly full: %" PRIu64 " of %" PRIu64 " MiB are left",
                           path, room >> 20, size >> 20);
        pgqrs_doctor_mend(d, "df -h %s, and make room there", pgqrs_shell_word(path, word));
    }
}

void pgqrs_check_disk(struct pgqrs_doctor *d)
{
    char *path = find_file(d->dsn);
    if (path != NULL) {
        pgqrs_doctor_tell_disk(d, path);
    }
    free(path);
}
