/* SPDX-License-Identifier: Apache-2.0 */
/* A store served over a socket: the common cases, and peers that do not keep to the protocol. */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/sqlite/sqlite_priv.h"
#include "tests/support/pg_rig.h"
#include "tests/support/remote_rig.h"
#include "tests/support/store_random.h"
#include "tests/support/sqlite_rig.h"

/* ---- the common cases ---- */

static struct pgqrs_store *open_path(const char *dsn)
{
    struct pgqrs_error err;
    struct pgqrs_store *store = NULL;
    const struct pgqrs_store_options options = {.create = true, .busy_ms = 1000};
    if (pgqrs_store_open(dsn, &options, &store, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return store;
}

static struct pgqrs_store *open_memory(void *arg)
{
    (void)arg;
    return open_path("sqlite::memory:");
}

static struct pgqrs_store *open_new_file(void *arg)
{
    void *rig = NULL;
    assert_int_equal(sqlite_rig_setup(&rig), 0);
    *(struct sqlite_rig **)arg = rig;
    char dsn[PATH_MAX + 32];
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", ((struct sqlite_rig *)rig)->path);
    return open_path(dsn);
}

static void run_sql(void *arg, struct pgqrs_store *store, const char *text)
{
    sqlite3 *db = sqlite_of(store)->db;
    (void)arg;
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    }
}

static void close_memory(void *arg, struct pgqrs_store *store)
{
    (void)arg;
    pgqrs_store_close(&store);
}

static void close_file(void *arg, struct pgqrs_store *store)
{
    pgqrs_store_close(&store);
    assert_int_equal(sqlite_rig_teardown(arg), 0);
}

static struct pgqrs_store *open_postgres(void *arg)
{
    struct pg_rig *rig = pg_rig_create();
    struct pgqrs_store *store = NULL;
    *(struct pg_rig **)arg = rig;
    suite_ok(rig, pg_rig_open(rig, NULL, &store));
    return store;
}

static void close_postgres(void *arg, struct pgqrs_store *store)
{
    pgqrs_store_close(&store);
    pg_rig_destroy(*(struct pg_rig **)arg);
}

static void set_postgres_clock(void *arg, struct pgqrs_store *store, int64_t wall_us)
{
    (void)store; /* it is the schema that has a clock */
    pg_rig_set_clock(*(struct pg_rig **)arg, wall_us);
}

static void run_postgres_sql(void *arg, struct pgqrs_store *store, const char *text)
{
    (void)store;
    pg_rig_sql(*(struct pg_rig **)arg, "%s", text);
}

/* ---- brokers that do not keep to the protocol ---- */

enum react { /* what the broker of a script does with a call */
             REACT_NONE = 0,
             REACT_ANSWER,
             REACT_CLOSE,
             REACT_SILENT, /* until the client has gone */
             REACT_HALF,
             REACT_OVERSIZED,
             REACT_WRONG_DIRECTION,
             REACT_WRONG_TYPE,
             REACT_WRONG_NUMBER,
             REACT_WRONG_OPERATION,
             REACT_CHANGED, /* its operation's number is none */
             REACT_MORE,    /* bytes after the reply */
             REACT_FEWER,   /* another number of items than the call has */
             REACT_COUNT
};

struct script {
    const enum react *steps; /* each gets a connection of its own */
    size_t count;
    sem_t closed; /* posted after each connection */
};

static void encode_answer(struct pgqrs_buf *out, const struct pgqrs_store_call *call,
                          enum react how)
{
    static const int64_t ids[2] = {7, 8};
    static const bool existed[2] = {false, true};
    static const struct pgqrs_lease lease = {.want = 1, .message_id = 1, .payload = {"1", 1}};
    struct pgqrs_store_reply reply = {.number = call->number, .op = call->op};
    size_t more = how == REACT_FEWER ? 1 : 0;
    if (call->op == PGQRS_STORE_ENQUEUE) {
        reply.u.enqueued.ids = ids;
        reply.u.enqueued.existed = existed;
        reply.u.enqueued.count = call->u.enqueue.count + more;
    } else if (call->op == PGQRS_STORE_EXCHANGE) {
        reply.u.exchange.leases = &lease;
        reply.u.exchange.lease_count = 1; /* of a want that was not there */
    } else {
        reply.u.id = 42;
    }
    reply.number += how == REACT_WRONG_NUMBER ? 1 : 0;
    reply.op = how == REACT_WRONG_OPERATION ? PGQRS_STORE_INSTALL : reply.op;
    (void)!pgqrs_encode_store_reply(out, &reply, NULL); /* nothing is sent then */
}

static void encode_reaction(struct pgqrs_buf *out, const struct pgqrs_store_call *call,
                            enum react how)
{
    if (how == REACT_WRONG_DIRECTION) {
        (void)!pgqrs_encode_store_call(out, call, NULL); /* it was encoded before */
        return;
    }
    if (how == REACT_WRONG_TYPE) {
        const struct pgqrs_client_welcome again = {.major = 1, .version = "", .backend = ""};
        pgqrs_encode_client_welcome(out, &again);
        return;
    }
    encode_answer(out, call, how);
    if (how == REACT_HALF) {
        out->len /= 2;
    } else if (how == REACT_OVERSIZED) {
        pgqrs_buf_set_u32(out, 0, PGQRS_BODY_MAX + 1);
    } else if (how == REACT_CHANGED) {
        out->data[PGQRS_FRAME_HEADER + 8] = PGQRS_STORE_OP_COUNT;
    } else if (how == REACT_MORE) {
        pgqrs_buf_put_u8(out, 0);
    }
}

static void react(int fd, const struct pgqrs_frame *frame, enum react how)
{
    struct pgqrs_store_call call;
    struct pgqrs_buf out = {0};
    uint8_t byte;
    if (how == REACT_CLOSE || pgqrs_decode_store_call(frame, &call, NULL) < 0) {
        return;
    }
    if (how == REACT_SILENT) {
        (void)!recv(fd, &byte, 1, 0); /* comes back when the client has gone */
    } else {
        encode_reaction(&out, &call, how);
        (void)remote_rig_write(fd, out.data, out.len); /* the client tells what it got */
    }
    pgqrs_buf_fini(&out);
    pgqrs_store_call_fini(&call);
}

static void follow_script(struct remote_rig *rig)
{
    struct script *script = rig->arg;
    struct pgqrs_buf in = {0};
    for (size_t i = 0; i < script->count; i++) {
        struct pgqrs_frame frame;
        int fd = remote_rig_welcome(rig);
        if (fd < 0) {
            break;
        }
        if (remote_rig_read(fd, &in, &frame)) {
            react(fd, &frame, script->steps[i]);
        }
        (void)close(fd);
        (void)sem_post(&script->closed);
    }
    pgqrs_buf_fini(&in);
}

struct scripted {
    struct remote_rig rig;
    struct script script;
    struct pgqrs_store *store;
    struct pgqrs_error err;
};

static struct scripted *start_script(const enum react *steps, size_t count, int64_t call_ms)
{
    struct scripted *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->script.steps = steps;
    f->script.count = count;
    assert_int_equal(sem_init(&f->script.closed, 0, 0), 0);
    remote_rig_start(&f->rig, follow_script, &f->script);
    const struct pgqrs_store_options options = {.call_ms = call_ms};
    suite_ok(f, pgqrs_store_open(f->rig.dsn, &options, &f->store, &f->err));
    return f;
}

static void end_script(struct scripted *f)
{
    pgqrs_store_close(&f->store);
    remote_rig_stop(&f->rig);
    assert_int_equal(sem_destroy(&f->script.closed), 0);
    free(f);
}

static int enqueue_one(struct pgqrs_store *store, struct pgqrs_error *err)
{
    const struct pgqrs_enqueue item = {.payload = {"1", 1}};
    int64_t id;
    return pgqrs_store_enqueue(store, 1, &item, 1, &id, NULL, err);
}

/* A call that changes something and one that does not, then one that goes well. */
static void check_reaction(enum react how, enum pgqrs_err read_code, int64_t call_ms)
{
    const enum react steps[] = {how, how, REACT_ANSWER};
    struct scripted *f = start_script(steps, 3, call_ms);
    int64_t id = 0;
    suite_fails(f, enqueue_one(f->store, &f->err), PGQRS_ERR_UNKNOWN);
    assert_non_null(strstr(f->err.text, "enqueue: "));
    assert_non_null(strstr(f->err.text, "; it may have been done"));
    suite_fails(f, pgqrs_store_queue_find(f->store, "q", &id, &f->err), read_code);
    suite_ok(f, pgqrs_store_queue_find(f->store, "q", &id, &f->err));
    assert_int_equal(id, 42);
    end_script(f);
}

static void a_broker_that_dies_leaves_the_outcome_unknown(void **state)
{
    (void)state;
    check_reaction(REACT_CLOSE, PGQRS_ERR_AGAIN, 0);
    check_reaction(REACT_HALF, PGQRS_ERR_AGAIN, 0);
}

static void a_broker_that_hangs_is_left_at_the_deadline(void **state)
{
    (void)state;
    check_reaction(REACT_SILENT, PGQRS_ERR_AGAIN, 100);
}

static void replies_that_are_nonsense_are_not_taken(void **state)
{
    (void)state;
    check_reaction(REACT_OVERSIZED, PGQRS_ERR_PROTOCOL, 0);
    check_reaction(REACT_WRONG_DIRECTION, PGQRS_ERR_PROTOCOL, 0);
    check_reaction(REACT_WRONG_TYPE, PGQRS_ERR_PROTOCOL, 0);
    check_reaction(REACT_WRONG_NUMBER, PGQRS_ERR_PROTOCOL, 0);
    check_reaction(REACT_WRONG_OPERATION, PGQRS_ERR_PROTOCOL, 0);
    check_reaction(REACT_CHANGED, PGQRS_ERR_PROTOCOL, 0);
    check_reaction(REACT_MORE, PGQRS_ERR_PROTOCOL, 0);
}

static void replies_that_do_not_fit_the_call_are_not_taken(void **state)
{
    (void)state;
    const enum react steps[] = {REACT_FEWER, REACT_ANSWER, REACT_ANSWER};
    struct scripted *f = start_script(steps, 3, 0);
    suite_fails(f, enqueue_one(f->store, &f->err), PGQRS_ERR_UNKNOWN);
    const struct pgqrs_want want = {.queue_id = 1, .worker_id = 1, .count = 1, .lease_ms = 1};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    suite_fails(f, pgqrs_store_exchange(f->store, &x, &f->err), PGQRS_ERR_UNKNOWN);
    assert_int_equal(x.lease_count, 0);
    pgqrs_exchange_fini(&x);
    suite_ok(f, enqueue_one(f->store, &f->err));
    end_script(f);
}

static void a_broker_replaced_between_calls_is_not_noticed(void **state)
{
    (void)state;
    const enum react steps[] = {REACT_ANSWER, REACT_ANSWER};
    struct scripted *f = start_script(steps, 2, 0);
    suite_ok(f, enqueue_one(f->store, &f->err));
    assert_int_equal(sem_wait(&f->script.closed), 0);
    suite_ok(f, enqueue_one(f->store, &f->err));
    end_script(f);
}

static void welcome_and_wait(struct remote_rig *rig)
{
    int fd = remote_rig_welcome(rig);
    (void)sem_wait(rig->arg); /* until the client has given up */
    (void)close(fd);
}

static void what_was_not_sent_whole_was_not_done(void **state)
{
    (void)state;
    struct scripted *f = calloc(1, sizeof *f);
    assert_non_null(f);
    const struct pgqrs_store_options options = {.call_ms = 200};
    size_t len = (size_t)8 * 1024 * 1024;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, '1', len);
    const struct pgqrs_enqueue item = {.payload = {text, len}};
    int64_t id;
    sem_t done;
    assert_int_equal(sem_init(&done, 0, 0), 0);
    remote_rig_start(&f->rig, welcome_and_wait, &done);
    suite_ok(f, pgqrs_store_open(f->rig.dsn, &options, &f->store, &f->err));
    suite_fails(f, pgqrs_store_enqueue(f->store, 1, &item, 1, &id, NULL, &f->err), PGQRS_ERR_AGAIN);
    assert_int_equal(sem_post(&done), 0);
    free(text);
    pgqrs_store_close(&f->store);
    remote_rig_stop(&f->rig);
    assert_int_equal(sem_destroy(&done), 0);
    free(f);
}

/* ---- opening ---- */

static void refuse(struct remote_rig *rig)
{
    struct pgqrs_buf out = {0};
    int fd = remote_rig_accept(rig);
    pgqrs_encode_refuse(&out, "not today");
    (void)remote_rig_write(fd, out.data, out.len); /* the client tells what it got */
    (void)close(fd);
    pgqrs_buf_fini(&out);
}

static void talk_nonsense(struct remote_rig *rig)
{
    int fd = remote_rig_accept(rig);
    (void)remote_rig_write(fd, "HTTP/1.1 400 Bad Request\r\n", 26); /* as above */
    (void)close(fd);
}

static void hang_up(struct remote_rig *rig)
{
    (void)close(remote_rig_accept(rig));
}

static void accept_nobody(struct remote_rig *rig)
{
    (void)rig; /* they wait in the backlog */
}

static void what_is_no_broker_is_not_opened(void **state)
{
    (void)state;
    const struct {
        void (*serve)(struct remote_rig *rig);
        const char *text;
    } rows[] = {
        {refuse, "refused: not today"},
        {talk_nonsense, "is not the socket of a broker"},
        {hang_up, "connection lost"},
        {accept_nobody, "no answer within 100 ms"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct remote_rig rig = {0};
        struct pgqrs_store *store = NULL;
        struct pgqrs_error err;
        const struct pgqrs_store_options options = {.call_ms =
                                                        rows[i].serve == accept_nobody ? 100 : 0};
        remote_rig_start(&rig, rows[i].serve, NULL);
        assert_int_equal(pgqrs_store_open(rig.dsn, &options, &store, &err), -1);
        assert_int_equal(err.code, PGQRS_ERR_UNAVAILABLE);
        if (strstr(err.text, rows[i].text) == NULL) {
            fail_msg("found \"%s\", expected \"%s\"", err.text, rows[i].text);
        }
        remote_rig_stop(&rig);
    }
}

static void paths_that_lead_nowhere_are_told(void **state)
{
    (void)state;
    const struct pgqrs_store_options options = {0};
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    char dsn[300] = "broker:";
    assert_int_equal(pgqrs_store_open(dsn, &options, &store, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_CONFIG);
    memset(dsn + 7, 'x', 200);
    assert_int_equal(pgqrs_store_open(dsn, &options, &store, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "found a socket path of 200 bytes, expected at most 107"));
    assert_int_equal(pgqrs_store_open("broker:/nowhere/s", &options, &store, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "No such file"));
}

/* Who listens there was decided when they began to listen. */
static void a_socket_of_somebody_else_gets_nothing(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    const struct pgqrs_store_options options = {0};
    struct remote_rig rig = {0};
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    uint8_t byte;
    remote_rig_start(&rig, accept_nobody, NULL);
    assert_int_equal(seteuid(65534), 0);
    assert_int_equal(listen(rig.listen_fd, 1), 0);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(pgqrs_store_open(rig.dsn, &options, &store, &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "found one of user 65534, expected 0 or root"));
    int fd = remote_rig_accept(&rig);
    assert_true(fd >= 0);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    assert_int_equal(close(fd), 0);
    remote_rig_stop(&rig);
}

/* ---- serving ---- */

static void two_clients_share_a_broker(void **state)
{
    (void)state;
    const struct pgqrs_store_options options = {0};
    struct remote_rig rig = {.store = open_memory(NULL)};
    struct pgqrs_store *a = NULL;
    struct pgqrs_store *b = NULL;
    struct pgqrs_error err;
    int64_t id = 0;
    int64_t found = 0;
    remote_rig_start(&rig, remote_rig_serve_store, NULL);
    assert_int_equal(pgqrs_store_open(rig.dsn, &options, &a, &err), 0);
    assert_int_equal(pgqrs_store_open(rig.dsn, &options, &b, &err), 0);
    assert_string_equal(pgqrs_store_backend(a), "broker");
    assert_true(pgqrs_store_wake_fd(a) >= 0);
    assert_int_equal(pgqrs_store_install(a, &err), 0);
    assert_int_equal(pgqrs_store_queue_create(a, "q", &id, &err), 0);
    assert_int_equal(pgqrs_store_queue_find(b, "q", &found, &err), 0);
    assert_int_equal(found, id);
    assert_int_equal(pgqrs_store_claim(b, "here", &err), -1);
    assert_int_equal(err.code, PGQRS_ERR_UNAVAILABLE);
    pgqrs_store_close(&a);
    pgqrs_store_close(&b);
    remote_rig_stop(&rig);
    assert_int_equal(rig.calls, 3);
    pgqrs_store_close(&rig.store);
}

int main(void)
{
    struct sqlite_rig *rig = NULL;
    struct pg_rig *pg = NULL;
    const struct suite_backend memory = {
        .name = "memory", .open = open_memory, .close = close_memory, .sql = run_sql};
    const struct suite_backend file = {.name = "file",
                                       .open = open_new_file,
                                       .close = close_file,
                                       .sql = run_sql,
                                       .arg = (void *)&rig};
    const struct suite_backend postgres = {.name = "postgres",
                                           .open = open_postgres,
                                           .close = close_postgres,
                                           .set_clock = set_postgres_clock,
                                           .sql = run_postgres_sql,
                                           .arg = (void *)&pg};
    const struct {
        const char *name;
        const struct suite_backend *inner;
    } rows[] = {{"remote_memory", &memory}, {"remote_file", &file}, {"remote_postgres", &postgres}};
    int failed = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct remote_backend served = {.inner = rows[i].inner};
        const struct suite_backend remote = remote_rig_backend(rows[i].name, &served);
        failed += pgqrs_store_suite_run(&remote) + pgqrs_store_random_run(&remote);
    }
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(a_broker_that_dies_leaves_the_outcome_unknown),
        cmocka_unit_test(a_broker_that_hangs_is_left_at_the_deadline),
        cmocka_unit_test(replies_that_are_nonsense_are_not_taken),
        cmocka_unit_test(replies_that_do_not_fit_the_call_are_not_taken),
        cmocka_unit_test(a_broker_replaced_between_calls_is_not_noticed),
        cmocka_unit_test(what_was_not_sent_whole_was_not_done),
        cmocka_unit_test(what_is_no_broker_is_not_opened),
        cmocka_unit_test(paths_that_lead_nowhere_are_told),
        cmocka_unit_test(a_socket_of_somebody_else_gets_nothing),
        cmocka_unit_test(two_clients_share_a_broker),
    };
    return failed + cmocka_run_group_tests_name("remote only", cases, NULL, NULL);
}
