/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the SQLite statements that a program begins to execute: their number is the size of the
 * file $BENCH_STATEMENTS. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <sqlite3.h>

/* pgqrsd and its workers are started with this, too, and do not have SQLite. A statement that is
 * stepped for the first time since its reset is not busy. */
__attribute__((visibility("default"))) int sqlite3_step(sqlite3_stmt *stmt)
{
    static int (*step)(sqlite3_stmt * stmt);
    static int (*is_busy)(sqlite3_stmt * stmt);
    static int file = -1;
    if (step == NULL) {
        const char *path = getenv("BENCH_STATEMENTS");
        *(void **)&step = dlsym(RTLD_NEXT, "sqlite3_step");
        *(void **)&is_busy = dlsym(RTLD_NEXT, "sqlite3_stmt_busy");
        file = path == NULL ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
    if (is_busy(stmt) == 0) {
        (void)!write(file, ".", 1);
    }
    return step(stmt);
}
