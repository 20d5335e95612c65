/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/sqlite_priv.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <unistd.h>

/*
 * A program that commits writes to the -wal file. The kernel tells that before the commit is
 * visible (with a sync in between), so when nothing new is seen, a timer has another look, a few
 * times and ever later. The file is watched by name: opening it and closing it again would drop
 * the locks that SQLite holds for this process.
 */

#define LOOK_AGAIN_US 80 /* a sync takes a few times that, or very much longer */
#define LOOKS_SOON 8     /* each half as much later again, the last one after 4 ms */
#define LOOKS 11         /* then each four times as much: the last one after a quarter second */

void pgqrs_sqlite_wake_init(struct sqlite_wake *wake)
{
    *wake = (struct sqlite_wake){.fd = -1, .inotify = -1, .timer = -1};
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        (void)close(fd); /* nothing is written to it */
    }
}

void pgqrs_sqlite_wake_fini(struct sqlite_wake *wake)
{
    close_fd(wake->fd);
    close_fd(wake->inotify);
    close_fd(wake->timer);
    pgqrs_sqlite_wake_init(wake);
}

/* The file is there: this connection has it open, and only the last one to close removes it. */
static bool watch(struct sqlite_store *s)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s-wal", s->path) >= (int)sizeof path) {
        return false;
    }
    s->wake.watch = inotify_add_watch(s->wake.inotify, path, IN_MODIFY);
    return s->wake.watch >= 0;
}

static bool listen_to(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static int64_t data_version(struct sqlite_store *s)
{
    sqlite3_stmt *stmt = pgqrs_sqlite_stmt(s, STMT_DATA_VERSION, NULL);
    int64_t version = -1;
    if (stmt != NULL && pgqrs_sqlite_step(s, stmt, NULL) > 0) {
        version = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_reset(stmt); /* the row was read */
    }
    return version;
}

int pgqrs_sqlite_wake_fd(struct pgqrs_store *store)
{
    struct sqlite_store *s = sqlite_of(store);
    struct sqlite_wake *w = &s->wake;
    if (s->path == NULL || w->fd >= 0) {
        return w->fd;
    }
    w->fd = epoll_create1(EPOLL_CLOEXEC);
    w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    w->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    w->data_version = data_version(s); /* opens the -wal file if nothing has */
    if (w->fd < 0 || w->inotify < 0 || w->timer < 0 || !watch(s) || !listen_to(w->fd, w->inotify) ||
        !listen_to(w->fd, w->timer)) {
        pgqrs_sqlite_wake_fini(w); /* the caller polls instead */
    }
    return w->fd;
}

void pgqrs_sqlite_unwatch(struct pgqrs_store *store)
{
    const struct sqlite_wake *w = &sqlite_of(store)->wake;
    if (w->fd >= 0) {
        (void)inotify_rm_watch(w->inotify, w->watch); /* there is none when it fails */
    }
}

/* Takes all events away. True when there were some. */
static bool drain(struct sqlite_wake *w)
{
    char events[4096];
    bool any = false;
    while (read(w->inotify, events, sizeof events) > 0) {
        any = true;
    }
    return any;
}

static void arm(struct sqlite_wake *w, int64_t us)
{
    const struct itimerspec when = {
        .it_value = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}};
    w->armed = timerfd_settime(w->timer, 0, &when, NULL) == 0 && us > 0;
}

static int64_t pause_us(unsigned tries)
{
    int64_t us = LOOK_AGAIN_US;
    for (unsigned i = 0; i < tries; i++) {
        us = i < LOOKS_SOON ? us + us / 2 : us * 4;
    }
    return us;
}

static bool expired(struct sqlite_wake *w)
{
    uint64_t count;
    if (!w->armed || read(w->timer, &count, sizeof count) != (ssize_t)sizeof count) {
        return false;
    }
    w->armed = false;
    return true;
}

bool pgqrs_sqlite_woken(struct pgqrs_store *store)
{
    struct sqlite_store *s = sqlite_of(store);
    struct sqlite_wake *w = &s->wake;
    if (w->fd < 0) {
        return false;
    }
    bool wrote = drain(w);
    bool again = expired(w);
    int64_t version = data_version(s);
    if (version != w->data_version) {
        w->data_version = version;
        w->tries = 0;
        if (w->armed) {
            arm(w, 0);
        }
        return true;
    }
    w->tries = wrote ? 0 : w->tries + (again ? 1 : 0);
    if ((wrote || (again && !w->armed)) && w->tries < LOOKS) {
        arm(w, pause_us(w->tries));
    }
    return false;
}

/*
 * What this store writes itself is taken away before anybody looks: an idle broker that notes that
 * it is alive must not wake itself. Its lock keeps others out while it writes, so what is heard at
 * the beginning is theirs and what is heard at the end is its own. Somebody may write between the
 * commit and its end: that one is missed.
 */
void pgqrs_sqlite_wake_begun(struct sqlite_store *s)
{
    struct sqlite_wake *w = &s->wake;
    if (w->fd >= 0 && drain(w)) {
        w->tries = 0;
        arm(w, 1);
    }
}

void pgqrs_sqlite_wake_ended(struct sqlite_store *s)
{
    if (s->wake.fd >= 0) {
        (void)drain(&s->wake);
    }
}

void pgqrs_sqlite_wake_moved(struct sqlite_store *s)
{
    struct sqlite_wake *w = &s->wake;
    if (w->fd >= 0) {
        (void)data_version(s); /* opens the -wal file if nothing has */
        (void)watch(s);        /* without it the caller polls */
        w->data_version = -1;
        w->tries = 0;
        arm(w, LOOK_AGAIN_US);
    }
}
