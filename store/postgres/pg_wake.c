/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_wake.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"

#define RETRY_MIN_MS 100 /* between attempts to connect */
#define RETRY_MAX_MS 5000
#define SETUP_RETRY_MS 1000 /* while the schema is not installed */
#define CLAIM_RETRY_MS 2000
/* After the gate was found closed: a producer keeps it for moments, another broker for long. */
#define GATE_RETRY_MIN_MS 2
#define GATE_RETRY_MAX_MS 1000
#define FOREVER INT64_MAX

enum link { /* the connection */
            LINK_DOWN = 0,
            LINK_CONNECTING,
            LINK_UP,
};

enum ask { /* what is asked of the server, one at a time */
           ASK_NONE = 0,
           ASK_CLAIM,
           ASK_SETUP,
           ASK_LISTEN,
           ASK_LOCK,
           ASK_UNLOCK,
           ASK_COUNT
};

struct pg_wake {
    struct pg_dsn dsn;
    PGconn *conn;
    enum link link;
    PostgresPollingStatusType want; /* of a connection attempt */
    int64_t give_up_ms;             /* of the attempt, or of the question that is asked */
    int64_t connect_at_ms;          /* link down: the next attempt */
    int64_t connect_after_ms;       /* how long to wait after the next failure */
    int epoll, timer;
    int64_t armed_ms; /* when the timer fires */
    enum ask asking;
    int64_t ask_at_ms[ASK_COUNT]; /* not before */
    bool is_setup, listening, claimed, locked;
    bool claim_told; /* that the claim is lost was logged */
    bool useless;    /* a pooler is in between: nothing is ever heard */
    bool dozing;     /* what the caller wants */
    bool hint;       /* what the caller is told next */
    int64_t gate_after_ms;
    bool gate_looked; /* since the caller dozes, the gate has answered once */
    char table[16];   /* the oid of pgqrs_messages */
    struct pgqrs_error why;
};

static int64_t jitter(int64_t ms)
{
    return ms + (ms >= 4 ? pgqrs_mono_us() % (ms / 4) : 0);
}

bool pgqrs_pg_wake_works(const struct pg_store *s)
{
    return s->wake != NULL && !s->wake->useless;
}

/* ---- the connection ---- */

static void lose(struct pg_wake *w)
{
    PQfinish(w->conn);
    w->conn = NULL;
    w->link = LINK_DOWN;
    w->asking = ASK_NONE;
    w->is_setup = w->listening = w->claimed = w->locked = w->gate_looked = false;
    memset(w->ask_at_ms, 0, sizeof w->ask_at_ms);
    w->connect_at_ms = pgqrs_mono_ms() + jitter(w->connect_after_ms);
    w->connect_after_ms =
        w->connect_after_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : w->connect_after_ms * 2;
}

static void start_connecting(struct pg_wake *w)
{
    w->conn = pgqrs_pg_connect_start(&w->dsn);
    if (w->conn == NULL || PQstatus(w->conn) == CONNECTION_BAD) {
        (void)(w->conn == NULL ? pgqrs_error_memory(&w->why)
                               : pgqrs_pg_connect_fail(w->conn, &w->dsn, &w->why));
        lose(w);
        return;
    }
    w->link = LINK_CONNECTING;
    w->want = PGRES_POLLING_WRITING;
    w->give_up_ms = pgqrs_mono_ms() + w->dsn.connect_ms;
}

static bool is_ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 0) > 0;
}

static void go_on_connecting(struct pg_wake *w)
{
    short events = w->want == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    while (w->link == LINK_CONNECTING && is_ready(PQsocket(w->conn), events)) {
        w->want = PQconnectPoll(w->conn);
        events = w->want == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (w->want == PGRES_POLLING_FAILED) {
            (void)pgqrs_pg_connect_fail(w->conn, &w->dsn, &w->why);
            lose(w);
        } else if (w->want == PGRES_POLLING_OK) {
            (void)PQsetErrorVerbosity(w->conn, PQERRORS_DEFAULT);
            (void)PQsetnonblocking(w->conn,
                                   1); /* fails on a bad connection, which the next shows */
            w->link = LINK_UP;
            w->connect_after_ms = RETRY_MIN_MS;
        }
    }
}

/* ---- questions ---- */

static int send_ask(struct pg_store *s, enum ask ask)
{
    struct pg_wake *w = s->wake;
    char text[64];
    const char *values[2] = {w->table, s->site};
    switch (ask) {
    case ASK_CLAIM:
        values[0] = s->schema;
        return PQsendQueryParams(w->conn,
                                 "SELECT pg_try_advisory_lock(" PG_CLAIM_CLASS
                                 ", hashtext($1 || '/' || $2)), pg_backend_pid()",
                                 2, NULL, values, NULL, NULL, 0);
    case ASK_SETUP:
        values[0] = s->search_path;
        return PQsendQueryParams(w->conn,
                                 "SELECT to_regclass($1 || '.pgqrs_messages')::oid,"
                                 " pg_backend_pid(),"
                                 " set_config('idle_in_transaction_session_timeout', '60s', false)",
                                 1, NULL, values, NULL, NULL, 0);
    case ASK_LISTEN:
        (void)snprintf(text, sizeof text, "LISTEN " PG_CHANNEL "%s", w->table);
        return PQsendQueryParams(w->conn, text, 0, NULL, NULL, NULL, NULL, 0);
    case ASK_LOCK:
        return PQsendQueryParams(w->conn,
                                 "SELECT pg_try_advisory_lock(" PG_GATE_CLASS ", $1::oid::int4)", 1,
                                 NULL, values, NULL, NULL, 0);
    case ASK_UNLOCK:
        return PQsendQueryParams(w->conn,
                                 "SELECT pg_advisory_unlock(" PG_GATE_CLASS ", $1::oid::int4)", 1,
                                 NULL, values, NULL, NULL, 0);
    case ASK_NONE:
    case ASK_COUNT:
        break;
    }
    return 1;
}

/* What there is to ask now or later. */
static enum ask next_ask(const struct pg_store *s)
{
    const struct pg_wake *w = s->wake;
    const int64_t now_ms = pgqrs_mono_ms();
    if (s->site != NULL && !w->claimed && now_ms >= w->ask_at_ms[ASK_CLAIM]) {
        return ASK_CLAIM;
    }
    if (!w->is_setup) {
        return now_ms >= w->ask_at_ms[ASK_SETUP] ? ASK_SETUP : ASK_NONE;
    }
    if (!w->listening) {
        return ASK_LISTEN;
    }
    if (w->locked && !w->dozing) {
        return ASK_UNLOCK;
    }
    return w->dozing && !w->locked && now_ms >= w->ask_at_ms[ASK_LOCK] ? ASK_LOCK : ASK_NONE;
}

static bool is_true(const PGresult *result)
{
    return PQntuples(result) > 0 && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
}

static bool is_pooler(const struct pg_wake *w, const PGresult *result)
{
    return strtol(PQgetvalue(result, 0, 1), NULL, 10) != PQbackendPID(w->conn);
}

static void on_claim(struct pg_store *s, const PGresult *result)
{
    struct pg_wake *w = s->wake;
    w->claimed = is_true(result);
    w->ask_at_ms[ASK_CLAIM] = pgqrs_mono_ms() + jitter(CLAIM_RETRY_MS);
    if (w->claimed && w->claim_told) {
        pgqrs_log_info("store: is the only broker of site \"%s\" again", s->site);
        w->claim_told = false;
    }
}

static void on_setup(struct pg_store *s, const PGresult *result)
{
    struct pg_wake *w = s->wake;
    if (is_pooler(w, result)) {
        w->useless = true;
        pgqrs_log_warn("store: a pooler is between this broker and PostgreSQL, nothing can be "
                       "heard through it; polling");
        return;
    }
    w->is_setup = PQgetisnull(result, 0, 0) == 0;
    w->ask_at_ms[ASK_SETUP] = pgqrs_mono_ms() + SETUP_RETRY_MS;
    (void)snprintf(w->table, sizeof w->table, "%s", PQgetvalue(result, 0, 0));
}

/*
 * Who got the gate must look once more: whatever came before it was not announced. So must who did
 * not, once: somebody else got it, and that one may not care for the same queues.
 */
static void on_lock(struct pg_wake *w, const PGresult *result)
{
    w->locked = is_true(result);
    w->hint = w->hint || w->locked || !w->gate_looked;
    w->gate_looked = true;
    w->ask_at_ms[ASK_LOCK] = pgqrs_mono_ms() + jitter(w->gate_after_ms);
    w->gate_after_ms =
        w->gate_after_ms * 2 > GATE_RETRY_MAX_MS ? GATE_RETRY_MAX_MS : w->gate_after_ms * 2;
}

static void on_answer(struct pg_store *s, enum ask ask, const PGresult *result)
{
    struct pg_wake *w = s->wake;
    switch (ask) {
    case ASK_CLAIM:
        on_claim(s, result);
        break;
    case ASK_SETUP:
        on_setup(s, result);
        break;
    case ASK_LISTEN:
        w->listening = true;
        w->hint = true; /* what was announced before was not heard */
        break;
    case ASK_LOCK:
        on_lock(w, result);
        break;
    case ASK_UNLOCK:
        w->locked = false;
        break;
    case ASK_NONE:
    case ASK_COUNT:
        break;
    }
}

/* ---- one step ---- */

static void receive(struct pg_store *s)
{
    struct pg_wake *w = s->wake;
    while (w->asking != ASK_NONE && PQisBusy(w->conn) == 0) {
        PGresult *result = PQgetResult(w->conn);
        ExecStatusType status = PQresultStatus(result);
        if (result == NULL) {
            w->asking = ASK_NONE;
        } else if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
            on_answer(s, w->asking, result);
        } else {
            (void)pgqrs_pg_fail(result, false, &w->why);
            PQclear(result);
            lose(w);
            return;
        }
        PQclear(result);
    }
}

static void hear(struct pg_wake *w)
{
    PGnotify *note;
    while ((note = PQnotifies(w->conn)) != NULL) {
        w->hint = true;
        /* Whoever had the gate wakes up, too, and may leave it open: ask again soon. */
        w->gate_after_ms = GATE_RETRY_MIN_MS;
        w->ask_at_ms[ASK_LOCK] = pgqrs_mono_ms() + GATE_RETRY_MIN_MS;
        PQfreemem(note);
    }
}

/* False: nothing more can be done now. */
static bool step_up(struct pg_store *s)
{
    struct pg_wake *w = s->wake;
    while (is_ready(PQsocket(w->conn), POLLIN)) {
        if (PQconsumeInput(w->conn) == 0) {
            (void)pgqrs_error_set(&w->why, PGQRS_ERR_AGAIN, "PostgreSQL: the connection was lost");
            lose(w);
            return false;
        }
        (void)PQisBusy(w->conn); /* reads what came, such as last words */
    }
    receive(s);
    if (w->link != LINK_UP) {
        return false;
    }
    hear(w);
    enum ask ask = w->asking != ASK_NONE || w->useless ? ASK_NONE : next_ask(s);
    if (ask != ASK_NONE && send_ask(s, ask) == 1) {
        w->asking = ask;
        w->give_up_ms = pgqrs_mono_ms() + s->call_ms;
    }
    (void)PQflush(w->conn); /* what is wrong with it, the next read shows */
    return ask != ASK_NONE;
}

static bool is_late(const struct pg_wake *w)
{
    bool waiting = w->link == LINK_CONNECTING || (w->link == LINK_UP && w->asking != ASK_NONE);
    return waiting && pgqrs_mono_ms() >= w->give_up_ms;
}

static int64_t next_event_ms(const struct pg_store *s)
{
    const struct pg_wake *w = s->wake;
    if (w->useless) {
        return FOREVER;
    }
    if (w->link == LINK_DOWN) {
        return w->connect_at_ms;
    }
    if (w->link == LINK_CONNECTING || w->asking != ASK_NONE) {
        return w->give_up_ms;
    }
    int64_t at_ms = s->site != NULL && !w->claimed ? w->ask_at_ms[ASK_CLAIM] : FOREVER;
    int64_t other_ms = !w->is_setup              ? w->ask_at_ms[ASK_SETUP]
                       : w->dozing && !w->locked ? w->ask_at_ms[ASK_LOCK]
                                                 : FOREVER;
    return at_ms < other_ms ? at_ms : other_ms;
}

static void watch(struct pg_store *s)
{
    struct pg_wake *w = s->wake;
    if (w->conn != NULL && PQsocket(w->conn) >= 0) {
        bool writes =
            w->link == LINK_CONNECTING ? w->want == PGRES_POLLING_WRITING : PQflush(w->conn) > 0;
        struct epoll_event event = {.events = writes ? EPOLLIN | EPOLLOUT : EPOLLIN};
        /* While it connects libpq may change the socket, and the number may be the same. */
        if (epoll_ctl(w->epoll, EPOLL_CTL_MOD, PQsocket(w->conn), &event) < 0 && errno == ENOENT) {
            (void)epoll_ctl(w->epoll, EPOLL_CTL_ADD, PQsocket(w->conn), &event); /* or polls */
        }
    }
    int64_t at_ms = next_event_ms(s);
    if (at_ms == w->armed_ms) {
        return;
    }
    int64_t ms = at_ms == FOREVER ? 0 : at_ms - pgqrs_mono_ms();
    ms = at_ms != FOREVER && ms < 1 ? 1 : ms;
    const struct itimerspec when = {
        .it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}};
    (void)timerfd_settime(w->timer, 0, &when, NULL); /* without it, who polls sees all the same */
    w->armed_ms = at_ms;
}

static void step(struct pg_store *s)
{
    struct pg_wake *w = s->wake;
    uint64_t count;
    if (read(w->timer, &count, sizeof count) == (ssize_t)sizeof count) {
        w->armed_ms = 0;
    }
    if (is_late(w)) {
        (void)pgqrs_error_set(&w->why, PGQRS_ERR_AGAIN, "PostgreSQL: no answer in time");
        lose(w);
    }
    if (w->link == LINK_DOWN && pgqrs_mono_ms() >= w->connect_at_ms) {
        start_connecting(w);
    }
    if (w->link == LINK_CONNECTING) {
        go_on_connecting(w);
    }
    while (w->link == LINK_UP && step_up(s)) {
    }
    watch(s);
}

/* Steps until something is so, or the deadline has passed. */
static bool await(struct pg_store *s, bool (*is_so)(const struct pg_store *s), int64_t deadline_ms)
{
    struct pollfd fd = {.fd = s->wake->epoll, .events = POLLIN};
    for (;;) {
        step(s);
        int64_t left_ms = deadline_ms - pgqrs_mono_ms();
        if (is_so(s) || left_ms <= 0) {
            return is_so(s);
        }
        (void)poll(&fd, 1, left_ms > 1000 ? 1000 : (int)left_ms); /* any reason will do */
    }
}

/* ---- opening ---- */

static bool is_decided(const struct pg_store *s)
{
    return s->wake->link != LINK_CONNECTING;
}

int pgqrs_pg_wake_open(struct pg_store *s, const char *dsn, struct pgqrs_error *err)
{
    struct pg_wake *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return pgqrs_error_memory(err);
    }
    s->wake = w;
    w->connect_after_ms = RETRY_MIN_MS;
    w->gate_after_ms = GATE_RETRY_MIN_MS;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    if (w->epoll < 0 || w->timer < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->timer, &event) < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_AGAIN, errno, "PostgreSQL: listening");
    }
    if (pgqrs_pg_dsn_parse(&w->dsn, dsn, err) < 0) {
        return -1;
    }
    if (!await(s, is_decided, pgqrs_mono_ms() + w->dsn.connect_ms) || w->link != LINK_UP) {
        (void)pgqrs_error_set(err, w->why.code == 0 ? PGQRS_ERR_AGAIN : w->why.code,
                              "to listen: %s", w->why.code == 0 ? "no answer" : w->why.text);
        return -1;
    }
    return 0;
}

/* Others who sleep have relied on our gate, and are to ask for it now, not at their next turn. The
 * server does what it was sent before it finds that we are gone, so no answer is waited for. */
static void leave_gate(const struct pg_wake *w)
{
    const char *values[] = {w->table};
    if (w->link == LINK_UP && w->locked && w->asking == ASK_NONE &&
        PQsendQueryParams(w->conn,
                          "SELECT pg_advisory_unlock(" PG_GATE_CLASS ", $1::oid::int4),"
                          " pg_notify('" PG_CHANNEL "' || $1, '')",
                          1, NULL, values, NULL, NULL, 0) == 1) {
        (void)PQflush(w->conn); /* or they find out by themselves */
    }
}

void pgqrs_pg_wake_close(struct pg_store *s)
{
    struct pg_wake *w = s->wake;
    if (w == NULL) {
        return;
    }
    leave_gate(w);
    PQfinish(w->conn);
    if (w->epoll >= 0) {
        (void)close(w->epoll); /* nothing is written to it */
    }
    if (w->timer >= 0) {
        (void)close(w->timer);
    }
    pgqrs_pg_dsn_fini(&w->dsn);
    free(w);
    s->wake = NULL;
}

/* ---- the calls ---- */

static bool is_claim_answered(const struct pg_store *s)
{
    const struct pg_wake *w = s->wake;
    return w->useless || w->claimed || w->ask_at_ms[ASK_CLAIM] != 0 || w->link == LINK_DOWN;
}

int pgqrs_pg_wake_claim(struct pg_store *s, struct pgqrs_error *err)
{
    struct pg_wake *w = s->wake;
    w->ask_at_ms[ASK_CLAIM] = 0;
    w->claimed = false; /* perhaps of another site */
    step(s);            /* a connection that has ended is found here */
    if (w->link == LINK_DOWN) {
        w->connect_at_ms = 0;
    }
    bool answered = await(s, is_claim_answered, pgqrs_mono_ms() + s->call_ms);
    if (w->claimed || w->useless) {
        return 0;
    }
    if (!answered || w->link == LINK_DOWN) {
        return pgqrs_error_set(err, PGQRS_ERR_AGAIN, "to listen: %s",
                               w->why.code == 0 ? "PostgreSQL: no answer in time" : w->why.text);
    }
    return pgqrs_error_set(err, PGQRS_ERR_UNAVAILABLE,
                           "PostgreSQL: another process is the broker of site \"%s\" for schema "
                           "\"%s\"",
                           s->site, s->schema);
}

int pgqrs_pg_wake_fd(struct pgqrs_store *store)
{
    struct pg_store *s = pg_of(store);
    if (s->wake == NULL) {
        return -1;
    }
    step(s);
    return s->wake->useless ? -1 : s->wake->epoll;
}

static void tell_claim(struct pg_store *s)
{
    struct pg_wake *w = s->wake;
    if (s->site != NULL && !w->claimed && w->ask_at_ms[ASK_CLAIM] != 0 && !w->claim_told) {
        pgqrs_log_warn("store: the connection was lost, and now another process is the broker of "
                       "site \"%s\"; goes on",
                       s->site);
        w->claim_told = true;
    }
}

bool pgqrs_pg_woken(struct pgqrs_store *store)
{
    struct pg_store *s = pg_of(store);
    if (s->wake == NULL) {
        return false;
    }
    step(s);
    tell_claim(s);
    bool hint = s->wake->hint;
    s->wake->hint = false;
    s->told = s->told || hint;
    return hint;
}

void pgqrs_pg_doze(struct pgqrs_store *store)
{
    struct pg_store *s = pg_of(store);
    struct pg_wake *w = s->wake;
    if (w == NULL) {
        return;
    }
    if (!w->dozing) {
        w->dozing = true;
        w->gate_looked = false;
        w->gate_after_ms = GATE_RETRY_MIN_MS;
        w->ask_at_ms[ASK_LOCK] = 0;
    }
    step(s);
}

void pgqrs_pg_rouse(struct pgqrs_store *store)
{
    struct pg_store *s = pg_of(store);
    if (s->wake != NULL) {
        s->wake->dozing = false;
        step(s);
    }
}
