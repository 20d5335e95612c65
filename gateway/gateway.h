/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_GATEWAY_GATEWAY_H
#define PGQRS_GATEWAY_GATEWAY_H

/*
 * The gateway: health and metrics over HTTP. It owns nothing. What the supervisor knows it asks at
 * the operator's socket, as `pgqrs ctl status` does; what the store knows it asks the broker, as
 * any client does.
 *
 *   pgqrs_gateway.c  the process: its supervisor's messages, start and end
 *   status.c         asks the supervisor, again and again
 *   sampler.c        asks the store, on a thread of its own, when somebody wants to know
 *   http.c           requests, their limits, and answers
 *   limits.c         how long that may take
 *   health.c         what is missing
 *   metrics.c        the numbers
 *   exposition.c     and their text
 */

#include <stdbool.h>
#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <jansson.h>

#include "ipc/child.h"
#include "store/store.h"

#define PGQRS_GATEWAY_FRESH_MS 1000      /* so old an answer of the store may be */
#define PGQRS_GATEWAY_DESCRIPTORS_MAX 96 /* a connection has one; the rest of us a dozen */
#define PGQRS_GATEWAY_COUNT_MAX 10000    /* a count of the store stops here */

struct gateway_queue {
    char *name;
    bool known; /* the store has answered */
    struct pgqrs_queue_metrics metrics;
};

struct gateway_sample { /* what the store has said */
    int64_t at_ms;      /* monotonic; 0: it was never asked */
    char trouble[512];  /* why it does not serve; empty: it does */
    bool counted;       /* the queues were asked about */
    struct gateway_queue *queues;
    size_t queue_count;
};

struct sampler;
struct status_ask;
struct gateway_limits;
struct bufferevent;
struct evhttp;
struct evhttp_request;

struct gateway_request; /* one that waits for the store */
TAILQ_HEAD(gateway_requests, gateway_request);

struct gateway {
    struct pgqrs_child *child;
    struct pgqrs_gateway_welcome welcome;
    struct event_base *base;
    struct event *control, *lifeline, *beat;

    struct event *status_timer, *status_soon;
    struct status_ask *status_ask; /* null: none is under way */
    json_t *status;                /* the last answer; null: none yet */
    int64_t status_at_ms;          /* monotonic */

    struct sampler *sampler;
    struct event *sampled;
    bool sampling;
    struct gateway_sample probe, counts; /* the last one, and the last one with counts */

    struct evhttp *http;
    struct evhttp_bound_socket *bound;
    struct event *room; /* looks whether there is room for connections again */
    struct gateway_requests requests;
    struct gateway_limits *limits;
    int exit_status;
};

/* ---- status.c ---- */
int pgqrs_gateway_status_start(struct gateway *g, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_gateway_status_end(struct gateway *g);
/* Soon, and not only when it is time: it has changed. */
void pgqrs_gateway_status_soon(struct gateway *g);
/* How old the supervisor's last answer is; -1: there is none. */
int64_t pgqrs_gateway_status_age(const struct gateway *g);
const char *pgqrs_gateway_text(const json_t *object, const char *key); /* "" when it is not there */

/* ---- sampler.c ---- */
int pgqrs_sampler_start(const char *job_socket, struct sampler **sampler_out,
                        struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* False: it is in a call, and lives on. */
bool pgqrs_sampler_stop(struct sampler **sampler);
/* Readable when a sample can be taken. */
int pgqrs_sampler_fd(const struct sampler *sampler);
/* One at a time. sample: the queues to ask about; with counted false only whether the store
 * serves. Takes what it has. */
void pgqrs_sampler_ask(struct sampler *sampler, struct gateway_sample *sample);
void pgqrs_sampler_take(struct sampler *sampler, struct gateway_sample *sample);
void pgqrs_gateway_sample_fini(struct gateway_sample *sample);

/* ---- http.c ---- */
int pgqrs_gateway_http_start(struct gateway *g, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_gateway_http_end(struct gateway *g);

/* ---- limits.c ---- */
int pgqrs_limits_start(struct gateway *g, struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_limits_end(struct gateway *g);
/* A connection has come; its request counts from here. Null is no connection. */
void pgqrs_limits_begin(struct gateway *g, struct bufferevent *stream);
/* The request is there: it is our turn. */
void pgqrs_limits_asked(struct gateway *g, struct evhttp_request *request);
/* The answer is on its way. */
void pgqrs_limits_answered(struct gateway *g, struct evhttp_request *request);

/* ---- health.c ---- */
/* Each writes what is missing, a line each; false when there is something. */
bool pgqrs_gateway_live(const struct gateway *g, struct evbuffer *out);
bool pgqrs_gateway_ready(const struct gateway *g, struct evbuffer *out);
/* The supervisor has answered lately. */
bool pgqrs_gateway_answered(const struct gateway *g, struct evbuffer *out);

/* ---- metrics.c ---- */
/* False: there are none, and why. */
bool pgqrs_gateway_metrics(const struct gateway *g, struct evbuffer *out);

#endif
