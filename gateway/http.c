/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers. One request a connection, so that nobody keeps one for himself. */
#include "gateway/gateway.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "base/clock.h"
#include "base/log.h"

#define HEADERS_MAX 8192
#define TIMEOUT_S 10
#define ROOM_MS 200
#define HTTP_METHOD_BAD 405
#define TEXT "text/plain; charset=utf-8"
#define METRICS "text/plain; version=0.0.4; charset=utf-8"

struct page {
    const char *path, *type;
    bool store, counts; /* it needs an answer of the store; with counts of the queues */
    bool (*write)(const struct gateway *g, struct evbuffer *out);
};

struct gateway_request {
    TAILQ_ENTRY(gateway_request) link;
    struct evhttp_request *http;
    const struct page *page;
    int64_t at_ms;
};

static const struct page pages[] = {
    {"/livez", TEXT, false, false, pgqrs_gateway_live},
    {"/readyz", TEXT, true, false, pgqrs_gateway_ready},
    {"/metrics", METRICS, true, true, pgqrs_gateway_metrics},
};

/* ---- answers ---- */

static void reply(struct gateway *g, struct evhttp_request *request, int code, const char *type,
                  struct evbuffer *body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    char length[32];
    (void)snprintf(length, sizeof length, "%zu", evbuffer_get_length(body));
    (void)evhttp_add_header(headers, "Content-Type", type);
    (void)evhttp_add_header(headers, "Content-Length", length);
    (void)evhttp_add_header(headers, "Cache-Control", "no-store");
    (void)evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    (void)evhttp_add_header(headers, "Connection", "close");
    if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
        (void)evbuffer_drain(body, evbuffer_get_length(body));
    }
    pgqrs_limits_answered(g, request);
    evhttp_send_reply(request, code, NULL, body);
}

static void reply_text(struct gateway *g, struct evhttp_request *request, int code,
                       const char *text)
{
    struct evbuffer *body = evbuffer_new();
    if (body == NULL) {
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
        return;
    }
    (void)evbuffer_add(body, text, strlen(text));
    reply(g, request, code, TEXT, body);
    evbuffer_free(body);
}

static void reply_page(struct gateway *g, struct evhttp_request *request, const struct page *page)
{
    struct evbuffer *body = evbuffer_new();
    if (body == NULL) {
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
        return;
    }
    bool good = page->write(g, body);
    if (good && evbuffer_get_length(body) == 0) {
        (void)evbuffer_add(body, "ok\n", 3);
    }
    reply(g, request, good ? HTTP_OK : HTTP_SERVUNAVAIL, good ? page->type : TEXT, body);
    evbuffer_free(body);
}

/* ---- the store ---- */

static bool fits(const struct gateway *g, const struct gateway_request *request)
{
    const struct gateway_sample *sample = request->page->counts ? &g->counts : &g->probe;
    return sample->at_ms != 0 && sample->at_ms + PGQRS_GATEWAY_FRESH_MS >= request->at_ms;
}

/* The queues of the last status, but for those that are not served any more. */
static void list_queues(const struct gateway *g, struct gateway_sample *sample)
{
    const json_t *queues = json_object_get(g->status, "queues");
    sample->queues = calloc(json_array_size(queues) + 1, sizeof *sample->queues);
    for (size_t i = 0; sample->queues != NULL && i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        char *name = strcmp(pgqrs_gateway_text(queue, "reload"), "removed") == 0
                         ? NULL
                         : strdup(pgqrs_gateway_text(queue, "queue"));
        if (name != NULL) {
            sample->queues[sample->queue_count++].name = name;
        }
    }
}

static void ask_store(struct gateway *g)
{
    struct gateway_sample sample = {0};
    const struct gateway_request *request;
    if (g->sampling || TAILQ_EMPTY(&g->requests)) {
        return;
    }
    TAILQ_FOREACH(request, &g->requests, link)
    {
        sample.counted = sample.counted || request->page->counts;
    }
    list_queues(g, &sample);
    g->sampling = true;
    pgqrs_sampler_ask(g->sampler, &sample);
}

static void answer_requests(struct gateway *g)
{
    struct gateway_request *request = TAILQ_FIRST(&g->requests);
    while (request != NULL) {
        struct gateway_request *next = TAILQ_NEXT(request, link);
        if (fits(g, request)) {
            TAILQ_REMOVE(&g->requests, request, link);
            reply_page(g, request->http, request->page);
            free(request);
        }
        request = next;
    }
}

static void on_sampled(evutil_socket_t fd, short what, void *arg)
{
    struct gateway *g = arg;
    struct gateway_sample sample;
    (void)fd;
    (void)what;
    pgqrs_sampler_take(g->sampler, &sample);
    g->sampling = false;
    g->probe.at_ms = sample.at_ms;
    memcpy(g->probe.trouble, sample.trouble, sizeof sample.trouble);
    if (sample.counted) {
        pgqrs_gateway_sample_fini(&g->counts);
        g->counts = sample;
    } else {
        pgqrs_gateway_sample_fini(&sample);
    }
    answer_requests(g);
    ask_store(g);
}

static void wait_for_store(struct gateway *g, struct evhttp_request *http, const struct page *page)
{
    struct gateway_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        reply_text(g, http, HTTP_SERVUNAVAIL, "out of memory\n");
        return;
    }
    *request = (struct gateway_request){.http = http, .page = page, .at_ms = pgqrs_mono_ms()};
    TAILQ_INSERT_TAIL(&g->requests, request, link);
    answer_requests(g);
    ask_store(g);
}

/* ---- requests ---- */

static const struct page *find_page(const char *path)
{
    for (size_t i = 0; path != NULL && i < sizeof pages / sizeof *pages; i++) {
        if (strcmp(path, pages[i].path) == 0) {
            return &pages[i];
        }
    }
    return NULL;
}

/* The connection stays as it is until it is answered: libevent does not read from it. */
static void on_request(struct evhttp_request *request, void *arg)
{
    struct gateway *g = arg;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    enum evhttp_cmd_type method = evhttp_request_get_command(request);
    const struct page *page = find_page(uri == NULL ? NULL : evhttp_uri_get_path(uri));
    pgqrs_limits_asked(g, request);
    if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
        (void)evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", "GET, HEAD");
        reply_text(g, request, HTTP_METHOD_BAD, "only GET and HEAD\n");
    } else if (page == NULL) {
        reply_text(g, request, HTTP_NOTFOUND, "there is /livez, /readyz and /metrics\n");
    } else if (page->store) {
        wait_for_store(g, request, page);
    } else {
        reply_page(g, request, page);
    }
}

/* ---- connections ---- */

static size_t descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    size_t n = 0;
    if (dir == NULL) {
        return PGQRS_GATEWAY_DESCRIPTORS_MAX;
    }
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

/* libevent does not tell when a connection ends that has asked for nothing. */
static void look_for_room(struct gateway *g)
{
    static const struct timeval soon = {.tv_usec = ROOM_MS * 1000};
    struct evconnlistener *listener = evhttp_bound_socket_get_listener(g->bound);
    if (descriptors() < PGQRS_GATEWAY_DESCRIPTORS_MAX) {
        (void)evconnlistener_enable(listener);
    } else if (evtimer_add(g->room, &soon) == 0) {
        (void)evconnlistener_disable(listener);
    }
}

static void on_room(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    look_for_room(arg);
}

static struct bufferevent *on_connection(struct event_base *base, void *arg)
{
    look_for_room(arg);
    struct bufferevent *stream = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    pgqrs_limits_begin(arg, stream);
    return stream;
}

int pgqrs_gateway_http_start(struct gateway *g, struct pgqrs_error *err)
{
    if (pgqrs_limits_start(g, err) < 0) {
        return -1;
    }
    g->http = evhttp_new(g->base);
    g->room = evtimer_new(g->base, on_room, g);
    g->sampled =
        event_new(g->base, pgqrs_sampler_fd(g->sampler), EV_READ | EV_PERSIST, on_sampled, g);
    if (g->http == NULL || g->room == NULL || g->sampled == NULL ||
        event_add(g->sampled, NULL) < 0) {
        return pgqrs_error_memory(err);
    }
    evhttp_set_max_headers_size(g->http, HEADERS_MAX);
    evhttp_set_max_body_size(g->http, 0);
    evhttp_set_timeout(g->http, TIMEOUT_S);
    evhttp_set_allowed_methods(g->http, UINT16_MAX);
    evhttp_set_bevcb(g->http, on_connection, g);
    evhttp_set_gencb(g->http, on_request, g);
    g->bound = evhttp_accept_socket_with_handle(g->http, PGQRS_FD_LISTEN);
    return g->bound == NULL ? pgqrs_error_memory(err) : 0;
}

void pgqrs_gateway_http_end(struct gateway *g)
{
    struct gateway_request *request;
    while ((request = TAILQ_FIRST(&g->requests)) != NULL) {
        TAILQ_REMOVE(&g->requests, request, link);
        free(request); /* the rest of it goes with its connection */
    }
    if (g->http != NULL) {
        evhttp_free(g->http);
    }
    pgqrs_limits_end(g);
    if (g->room != NULL) {
        event_free(g->room);
    }
    if (g->sampled != NULL) {
        event_free(g->sampled);
    }
    pgqrs_gateway_sample_fini(&g->probe);
    pgqrs_gateway_sample_fini(&g->counts);
}
