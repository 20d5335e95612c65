/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/remote_rig.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/store_service.h"
#include "store/store_priv.h"

/* ---- the socket and the thread ---- */

static void *run(void *arg)
{
    struct remote_rig *rig = arg;
    rig->serve(rig);
    return NULL;
}

void remote_rig_start(struct remote_rig *rig, void (*serve)(struct remote_rig *rig), void *arg)
{
    const char *tmp = getenv("TMPDIR");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(rig->dir, sizeof rig->dir, "%s/pgqrs-remote-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    assert_non_null(mkdtemp(rig->dir));
    (void)snprintf(rig->path, sizeof rig->path, "%s/s", rig->dir);
    (void)snprintf(rig->dsn, sizeof rig->dsn, "broker:%s", rig->path);
    assert_true(strlen(rig->path) < sizeof address.sun_path);
    memcpy(address.sun_path, rig->path, strlen(rig->path));
    rig->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    rig->stop_fd = eventfd(0, EFD_CLOEXEC);
    rig->serve = serve;
    rig->arg = arg;
    rig->calls = rig->looks = 0;
    assert_true(rig->listen_fd >= 0 && rig->stop_fd >= 0);
    assert_int_equal(bind(rig->listen_fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(rig->listen_fd, REMOTE_CLIENTS_MAX), 0);
    assert_int_equal(pthread_mutex_init(&rig->lock, NULL), 0);
    assert_int_equal(pthread_create(&rig->thread, NULL, run, rig), 0);
}

void remote_rig_stop(struct remote_rig *rig)
{
    const uint64_t one = 1;
    assert_int_equal(write(rig->stop_fd, &one, sizeof one), sizeof one);
    assert_int_equal(shutdown(rig->listen_fd, SHUT_RDWR), 0); /* wakes an accept */
    assert_int_equal(pthread_join(rig->thread, NULL), 0);
    (void)pthread_mutex_destroy(&rig->lock); /* nobody holds it */
    (void)close(rig->listen_fd);
    (void)close(rig->stop_fd);
    assert_int_equal(unlink(rig->path), 0);
    assert_int_equal(rmdir(rig->dir), 0);
}

/* ---- scripts ---- */

int remote_rig_accept(struct remote_rig *rig)
{
    return accept4(rig->listen_fd, NULL, NULL, SOCK_CLOEXEC);
}

bool remote_rig_write(int fd, const void *data, size_t len)
{
    return send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* 1: *frame is there; 0: more must be read; -1: nonsense. */
static int parse(const struct pgqrs_buf *buf, struct pgqrs_frame *frame, size_t *used)
{
    return pgqrs_msg_parse(buf->data, buf->len, PGQRS_ROLE_CLIENT, PGQRS_ROLE_BROKER, frame, used,
                           NULL);
}

static bool read_some(int fd, struct pgqrs_buf *buf)
{
    uint8_t *to = pgqrs_buf_reserve(buf, 65536);
    ssize_t n = to == NULL ? -1 : recv(fd, to, 65536, 0);
    if (n <= 0) {
        return false;
    }
    buf->len += (size_t)n;
    return true;
}

bool remote_rig_read(int fd, struct pgqrs_buf *buf, struct pgqrs_frame *frame)
{
    size_t used;
    int rc;
    pgqrs_buf_clear(buf);
    while ((rc = parse(buf, frame, &used)) == 0) {
        if (!read_some(fd, buf)) {
            return false;
        }
    }
    return rc > 0;
}

int remote_rig_welcome(struct remote_rig *rig)
{
    struct pgqrs_buf in = {0};
    struct pgqrs_buf out = {0};
    struct pgqrs_frame frame;
    int fd = remote_rig_accept(rig);
    bool ok = fd >= 0 && remote_rig_read(fd, &in, &frame) &&
              pgqrs_store_service_hello(&frame, "script", &out, NULL) == 0 &&
              remote_rig_write(fd, out.data, out.len);
    pgqrs_buf_fini(&in);
    pgqrs_buf_fini(&out);
    if (!ok && fd >= 0) {
        (void)close(fd);
    }
    return ok ? fd : -1;
}

/* ---- serving a store ---- */

struct client {
    int fd; /* -1: there is none */
    bool welcome;
    struct pgqrs_buf in;
};

static void drop(struct client *c)
{
    (void)close(c->fd);
    pgqrs_buf_fini(&c->in);
    *c = (struct client){.fd = -1};
}

static int answer(struct remote_rig *rig, struct client *c, const struct pgqrs_frame *frame,
                  struct pgqrs_buf *out)
{
    if (!c->welcome) {
        c->welcome = true;
        return pgqrs_store_service_hello(frame, pgqrs_store_backend(rig->store), out, NULL);
    }
    if (frame->type != PGQRS_MSG_STORE_CALL) {
        return -1;
    }
    bool look;
    (void)pthread_mutex_lock(&rig->lock);
    int rc = pgqrs_store_service(rig->store, frame, out, &look, NULL);
    rig->calls++;
    rig->looks += look;
    (void)pthread_mutex_unlock(&rig->lock);
    return rc;
}

static bool serve_client(struct remote_rig *rig, struct client *c)
{
    if (!read_some(c->fd, &c->in)) {
        return false;
    }
    struct pgqrs_frame frame;
    size_t used;
    int rc;
    while ((rc = parse(&c->in, &frame, &used)) > 0) {
        struct pgqrs_buf out = {0};
        rc = answer(rig, c, &frame, &out);
        bool sent = out.len == 0 || remote_rig_write(c->fd, out.data, out.len);
        pgqrs_buf_fini(&out);
        if (rc < 0 || !sent) {
            return false;
        }
        memmove(c->in.data, c->in.data + used, c->in.len - used);
        c->in.len -= used;
    }
    return rc == 0;
}

static void take_client(struct remote_rig *rig, struct client clients[])
{
    int fd = remote_rig_accept(rig);
    for (int i = 0; fd >= 0 && i < REMOTE_CLIENTS_MAX; i++) {
        if (clients[i].fd < 0) {
            clients[i].fd = fd;
            return;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

void remote_rig_serve_store(struct remote_rig *rig)
{
    struct client clients[REMOTE_CLIENTS_MAX];
    struct pollfd fds[REMOTE_CLIENTS_MAX + 2];
    for (int i = 0; i < REMOTE_CLIENTS_MAX; i++) {
        clients[i] = (struct client){.fd = -1};
    }
    for (;;) {
        for (int i = 0; i < REMOTE_CLIENTS_MAX; i++) {
            fds[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
        }
        fds[REMOTE_CLIENTS_MAX] = (struct pollfd){.fd = rig->listen_fd, .events = POLLIN};
        fds[REMOTE_CLIENTS_MAX + 1] = (struct pollfd){.fd = rig->stop_fd, .events = POLLIN};
        if (poll(fds, REMOTE_CLIENTS_MAX + 2, -1) < 0) {
            continue;
        }
        for (int i = 0; i < REMOTE_CLIENTS_MAX; i++) {
            if (clients[i].fd >= 0 && fds[i].revents != 0 && !serve_client(rig, &clients[i])) {
                drop(&clients[i]);
            }
        }
        if (fds[REMOTE_CLIENTS_MAX + 1].revents != 0) {
            break;
        }
        if (fds[REMOTE_CLIENTS_MAX].revents != 0) {
            take_client(rig, clients);
        }
    }
    for (int i = 0; i < REMOTE_CLIENTS_MAX; i++) {
        if (clients[i].fd >= 0) {
            drop(&clients[i]);
        }
    }
}

/* ---- the backend ---- */

/* The store is this thread's between two calls: the server waits for the next one. */

static struct pgqrs_store *open_client(void *arg)
{
    struct remote_backend *b = arg;
    const struct pgqrs_store_options options = {0};
    struct pgqrs_store *store = NULL;
    struct pgqrs_error err;
    if (pgqrs_store_open(b->rig.dsn, &options, &store, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return store;
}

/* What only a broker does to runs, the cases do on the store that is served. */

static struct remote_rig *served; /* by the backend that is open */
static struct pgqrs_workflow_ops workflow_ops;
static struct pgqrs_store_ops store_ops;

static int run_open(struct pgqrs_store *store, int64_t workflow_id, struct pgqrs_run_open *opens,
                    size_t count, int64_t *now_us_out, struct pgqrs_error *err)
{
    (void)store;
    (void)pthread_mutex_lock(&served->lock);
    int rc = pgqrs_store_run_open(served->store, workflow_id, opens, count, now_us_out, err);
    (void)pthread_mutex_unlock(&served->lock);
    return rc;
}

static int flow(struct pgqrs_store *store, struct pgqrs_flow *items, size_t count,
                struct pgqrs_error *err)
{
    (void)store;
    (void)pthread_mutex_lock(&served->lock);
    int rc = pgqrs_store_flow(served->store, items, count, err);
    (void)pthread_mutex_unlock(&served->lock);
    return rc;
}

static struct pgqrs_store *add_broker(struct remote_rig *rig, struct pgqrs_store *store)
{
    const struct pgqrs_workflow_ops *inner = rig->store->ops->workflow;
    if (inner != NULL && inner->run_open != NULL && inner->flow != NULL) {
        served = rig;
        workflow_ops = *store->ops->workflow;
        workflow_ops.run_open = run_open;
        workflow_ops.flow = flow;
        store_ops = *store->ops;
        store_ops.workflow = &workflow_ops;
        store->ops = &store_ops;
    }
    return store;
}

static struct pgqrs_store *open_backend(void *arg)
{
    struct remote_backend *b = arg;
    b->rig.store = b->inner->open(b->inner->arg);
    remote_rig_start(&b->rig, remote_rig_serve_store, NULL);
    return add_broker(&b->rig, open_client(arg));
}

static void close_backend(void *arg, struct pgqrs_store *store)
{
    struct remote_backend *b = arg;
    pgqrs_store_close(&store);
    remote_rig_stop(&b->rig);
    b->inner->close(b->inner->arg, b->rig.store);
    b->rig.store = NULL;
}

static void set_clock(void *arg, struct pgqrs_store *store, int64_t wall_us)
{
    (void)store; /* it is the served one that has a clock */
    struct remote_backend *b = arg;
    b->inner->set_clock(b->inner->arg, b->rig.store, wall_us);
}

static void run_sql(void *arg, struct pgqrs_store *store, const char *text)
{
    (void)store;
    struct remote_backend *b = arg;
    b->inner->sql(b->inner->arg, b->rig.store, text);
}

struct suite_backend remote_rig_backend(const char *name, struct remote_backend *backend)
{
    return (struct suite_backend){.name = name,
                                  .open = open_backend,
                                  .close = close_backend,
                                  .set_clock = backend->inner->set_clock == NULL ? NULL : set_clock,
                                  .open_again = open_client,
                                  .sql = backend->inner->sql == NULL ? NULL : run_sql,
                                  .arg = backend};
}
