/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rate_limit.h"
#include "ipc/output_page.h"
#include "ipc/spawn_contract.h"

#define CHUNK 4096      /* the buffer has room for it, see pgqrs_output_fill */
#define STUCK_MS 1000   /* for a log that takes nothing; then lines are dropped */
#define REPORT_MS 1000  /* between two lines about lines that were dropped */
#define BURST_SECONDS 2 /* of the rate */

struct pgqrs_output {
    char *queue;
    uint32_t worker;
    int fds[PGQRS_STREAM_COUNT];
    int wake_fd; /* an eventfd: the thread is to look when to report */

    pthread_mutex_t mutex; /* guards what follows */
    struct pgqrs_output_page *page;
    struct pgqrs_rate_limit limit;
    int64_t report_at_ms; /* monotonic; 0: nothing to report */
    bool stuck;           /* the log took nothing the last time */
};

/* ---- lines ---- */

static void drop(struct pgqrs_output *o)
{
    const uint64_t one = 1;
    o->page->dropped++;
    if (o->report_at_ms == 0) {
        o->report_at_ms = pgqrs_mono_ms() + REPORT_MS;
        (void)!write(o->wake_fd, &one, sizeof one); /* can fail only when it is readable already */
    }
}

/* False: the log takes nothing. */
static bool log_piece(struct pgqrs_output *o, enum pgqrs_log_level level,
                      struct pgqrs_log_tags *tags, const char **text, size_t *len)
{
    ssize_t used = pgqrs_log_output(level, tags, *text, *len, o->stuck ? 0 : STUCK_MS);
    o->stuck = used < 0;
    if (used >= 0) {
        *text += used;
        *len -= (size_t)used;
        tags->continued = true;
    }
    return used >= 0;
}

static struct pgqrs_log_tags tags_of(const struct pgqrs_output *o)
{
    return (struct pgqrs_log_tags){
        .program = "pgqrs-worker", .pid = getpid(), .queue = o->queue, .worker = o->worker};
}

static void on_line(void *context, enum pgqrs_stream stream, const char *text, size_t len,
                    bool continued)
{
    struct pgqrs_output *o = context;
    enum pgqrs_log_level level = PGQRS_OUTPUT_LEVEL(stream);
    struct pgqrs_log_tags tags = tags_of(o);
    tags.job = o->page->job;
    tags.stream = pgqrs_stream_name(stream);
    tags.continued = continued;
    if (level < pgqrs_log_level()) {
        return;
    }
    do {
        if (pgqrs_rate_limit_try(&o->limit, 1, pgqrs_mono_us()) != 0 ||
            !log_piece(o, level, &tags, &text, &len)) {
            drop(o);
            return;
        }
    } while (len > 0);
}

static void report_when_due(struct pgqrs_output *o)
{
    struct pgqrs_log_tags tags = tags_of(o);
    if (o->report_at_ms == 0 || pgqrs_mono_ms() < o->report_at_ms) {
        return;
    }
    /* A log that is stuck is tried again. */
    bool said = pgqrs_output_report(o->page, &tags, 0);
    o->report_at_ms = said ? 0 : pgqrs_mono_ms() + REPORT_MS;
}

/* ---- the thread ---- */

/* Ends watching a stream that can not be read any more. */
static void read_some(struct pgqrs_output *o, enum pgqrs_stream stream, struct pollfd *fd)
{
    ptrdiff_t n = pgqrs_output_fill(o->page, stream, fd->fd, CHUNK);
    pgqrs_output_take(o->page, stream, false, on_line, o);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        fd->fd = -1;
    }
}

static int report_wait(struct pgqrs_output *o)
{
    (void)pthread_mutex_lock(&o->mutex);
    int64_t left = o->report_at_ms == 0 ? -1 : o->report_at_ms - pgqrs_mono_ms();
    bool none = o->report_at_ms == 0;
    (void)pthread_mutex_unlock(&o->mutex);
    return none ? -1 : left < 0 ? 0 : (int)left;
}

static void *output_main(void *arg)
{
    struct pgqrs_output *o = arg;
    struct pollfd fds[] = {{.fd = o->fds[PGQRS_STREAM_OUT], .events = POLLIN},
                           {.fd = o->fds[PGQRS_STREAM_ERR], .events = POLLIN},
                           {.fd = o->wake_fd, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 3, report_wait(o)) < 0) {
            continue; /* interrupted; a wrong argument is our bug and would show as a busy loop */
        }
        uint64_t count;
        if (fds[2].revents != 0) {
            (void)!read(o->wake_fd, &count, sizeof count);
        }
        (void)pthread_mutex_lock(&o->mutex);
        for (int i = 0; i < PGQRS_STREAM_COUNT; i++) {
            if (fds[i].revents != 0) {
                read_some(o, (enum pgqrs_stream)i, &fds[i]);
            }
        }
        report_when_due(o);
        (void)pthread_mutex_unlock(&o->mutex);
    }
    return NULL;
}

/* ---- start ---- */

static int map_page(struct pgqrs_output_page **page_out, struct pgqrs_error *err)
{
    void *memory =
        mmap(NULL, sizeof **page_out, PROT_READ | PROT_WRITE, MAP_SHARED, PGQRS_FD_TAIL, 0);
    if (memory == MAP_FAILED) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "output page");
    }
    (void)close(PGQRS_FD_TAIL);
    *page_out = memory;
    return 0;
}

int pgqrs_output_open(struct pgqrs_output **output_out, struct pgqrs_error *err)
{
    /* Who starts a worker by hand has no file like it there. */
    int seals = fcntl(PGQRS_FD_TAIL, F_GET_SEALS);
    *output_out = NULL;
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return 0;
    }
    /* What this process starts itself gets only the ends that are written to. */
    for (int fd = PGQRS_FD_LOG; fd <= PGQRS_FD_OUTPUT_ERR; fd++) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* they are open: the contract says so */
    }
    pgqrs_log_set_fd(PGQRS_FD_LOG);
    struct pgqrs_output *o = calloc(1, sizeof *o);
    if (o == NULL) {
        return pgqrs_error_memory(err);
    }
    o->fds[PGQRS_STREAM_OUT] = PGQRS_FD_OUTPUT;
    o->fds[PGQRS_STREAM_ERR] = PGQRS_FD_OUTPUT_ERR;
    o->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (o->wake_fd < 0 || map_page(&o->page, err) < 0) {
        int rc = o->wake_fd < 0 ? pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "eventfd") : -1;
        free(o);
        return rc;
    }
    (void)pthread_mutex_init(&o->mutex, NULL); /* can not fail on Linux */
    *output_out = o;
    return 0;
}

int pgqrs_output_start(struct pgqrs_output *o, const char *queue, uint32_t worker,
                       uint32_t lines_per_second, struct pgqrs_error *err)
{
    pthread_t thread;
    sigset_t all, before;
    /* To a pipe it would be written in blocks, of which a crash loses the last. */
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (o == NULL) {
        return 0;
    }
    if ((o->queue = strdup(queue)) == NULL) {
        return pgqrs_error_memory(err);
    }
    o->worker = worker;
    pgqrs_rate_limit_init(&o->limit, lines_per_second, BURST_SECONDS * lines_per_second,
                          pgqrs_mono_us());
    /* Signals go to the main thread. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&thread, NULL, output_main, o);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, code, "output thread");
    }
    (void)pthread_detach(thread);
    return 0;
}

/* ---- around a job ---- */

void pgqrs_output_begin(struct pgqrs_output *o, int64_t job_id)
{
    if (o != NULL) {
        (void)pthread_mutex_lock(&o->mutex);
        o->page->job = job_id;
        (void)pthread_mutex_unlock(&o->mutex);
    }
}

/* No more than is there now: who outlives the job may go on writing for ever. */
static void drain(struct pgqrs_output *o, enum pgqrs_stream stream)
{
    int left = 0;
    ptrdiff_t n = 1;
    (void)ioctl(o->fds[stream], FIONREAD, &left); /* it is a pipe */
    while (left > 0 && n > 0) {
        n = pgqrs_output_fill(o->page, stream, o->fds[stream],
                              (size_t)(left < CHUNK ? left : CHUNK));
        pgqrs_output_take(o->page, stream, false, on_line, o);
        left -= (int)n;
    }
}

void pgqrs_output_end(struct pgqrs_output *o)
{
    if (o == NULL) {
        (void)fflush(stdout);
        return;
    }
    struct pollfd fds[] = {{.fd = o->fds[PGQRS_STREAM_OUT], .events = POLLIN},
                           {.fd = o->fds[PGQRS_STREAM_ERR], .events = POLLIN}};
    (void)fflush(stdout);
    (void)pthread_mutex_lock(&o->mutex);
    bool some = poll(fds, PGQRS_STREAM_COUNT, 0) > 0;
    for (int i = 0; i < PGQRS_STREAM_COUNT; i++) {
        if (some && fds[i].revents != 0) {
            drain(o, (enum pgqrs_stream)i);
        }
        pgqrs_output_take(o->page, (enum pgqrs_stream)i, true, on_line, o);
    }
    o->page->job = 0;
    report_when_due(o);
    (void)pthread_mutex_unlock(&o->mutex);
}
