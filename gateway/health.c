/* SPDX-License-Identifier: Apache-2.0 */
/* Whether pgqrsd lives, and whether it serves. */
#include "gateway/gateway.h"

#include <inttypes.h>
#include <string.h>

#include "base/escape.h"

#define SLACK_MS 1000 /* a busy machine has that much */

static int64_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static bool supervisor_answers(const struct gateway *g, int64_t limit_ms, struct evbuffer *out)
{
    int64_t age = pgqrs_gateway_status_age(g);
    if (age >= 0 && age <= limit_ms) {
        return true;
    }
    if (age < 0) {
        (void)evbuffer_add_printf(out, "supervisor: it has not answered yet\n");
    } else {
        (void)evbuffer_add_printf(out, "supervisor: no answer for %" PRId64 " ms\n", age);
    }
    return false;
}

bool pgqrs_gateway_answered(const struct gateway *g, struct evbuffer *out)
{
    return supervisor_answers(g, 3 * g->welcome.heartbeat_ms + SLACK_MS, out);
}

bool pgqrs_gateway_live(const struct gateway *g, struct evbuffer *out)
{
    return supervisor_answers(g, g->welcome.heartbeat_timeout_ms, out);
}

static bool broker_serves(const struct gateway *g, struct evbuffer *out)
{
    const json_t *broker = json_object_get(g->status, "broker");
    const char *state = pgqrs_gateway_text(broker, "state");
    int64_t silence = number(broker, "beat_age_ms");
    if (strcmp(state, "ready") != 0 && strcmp(state, "draining") != 0) {
        (void)evbuffer_add_printf(out, "broker: %s\n", state);
        return false;
    }
    if (silence > 3 * g->welcome.heartbeat_ms + SLACK_MS) {
        (void)evbuffer_add_printf(out, "broker: no heartbeat for %" PRId64 " ms\n", silence);
        return false;
    }
    int64_t trouble = number(g->status, "store_trouble_ms");
    if (trouble > 0) {
        (void)evbuffer_add_printf(out, "store: outcomes wait, for %" PRId64 " ms\n", trouble);
        return false;
    }
    if (g->probe.trouble[0] != 0) {
        (void)evbuffer_add_printf(out, "store: %s\n", g->probe.trouble);
        return false;
    }
    return true;
}

static bool queue_serves(const json_t *queue, struct evbuffer *out)
{
    const json_t *workers = json_object_get(queue, "workers");
    int64_t least = number(queue, "consumers_min");
    int64_t ready = 0;
    if (strcmp(pgqrs_gateway_text(queue, "reload"), "removed") == 0) {
        return true;
    }
    for (size_t i = 0; i < json_array_size(workers); i++) {
        const char *state = pgqrs_gateway_text(json_array_get(workers, i), "state");
        ready += strcmp(state, "ready") == 0 ? 1 : 0;
    }
    if (ready >= least) {
        return true;
    }
    char shown[4 * PGQRS_NAME_MAX + 1];
    const char *name = pgqrs_gateway_text(queue, "queue");
    (void)pgqrs_escape(shown, sizeof shown, name, strlen(name), false, NULL);
    (void)evbuffer_add_printf(
        out, "queue \"%s\": %" PRId64 " of %" PRId64 " workers are ready%s\n", shown, ready, least,
        json_is_string(json_object_get(queue, "failing")) ? ", and it is failing" : "");
    return false;
}

bool pgqrs_gateway_ready(const struct gateway *g, struct evbuffer *out)
{
    if (!pgqrs_gateway_answered(g, out)) {
        return false;
    }
    const char *state = pgqrs_gateway_text(g->status, "state");
    const json_t *queues = json_object_get(g->status, "queues");
    bool ready = strcmp(state, "running") == 0;
    if (!ready) {
        (void)evbuffer_add_printf(out, "pgqrsd: %s\n", state);
    }
    ready = broker_serves(g, out) && ready;
    for (size_t i = 0; i < json_array_size(queues); i++) {
        ready = queue_serves(json_array_get(queues, i), out) && ready;
    }
    return ready;
}
