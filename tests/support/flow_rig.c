/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/flow_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define LEASE_MS 60000

#define rig_ok(call)                                                                               \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            fail_msg("%s: %s", #call, err.text);                                                   \
        }                                                                                          \
    } while (0)

void flow_rig_open(struct flow_rig *rig, const char *dsn, const char *schema, const char *workflow)
{
    const struct pgqrs_store_options how = {.busy_ms = 5000, .schema = schema};
    struct pgqrs_workflow_list one;
    struct pgqrs_error err;
    *rig = (struct flow_rig){0};
    rig_ok(pgqrs_store_open(dsn, &how, &rig->store, &err));
    rig_ok(pgqrs_store_workflow_find(rig->store, workflow, &one, &err));
    rig->workflow = one.items[0].id;
    rig->queue = one.items[0].queue_id;
    pgqrs_workflow_list_fini(&one);
    const struct pgqrs_worker_row row = {.name = "host/w",
                                         .queue_id = rig->queue,
                                         .instance = "test",
                                         .generation = 1,
                                         .pid = getpid()};
    rig_ok(pgqrs_store_worker_register(rig->store, &row, &rig->worker, &err));
}

void flow_rig_close(struct flow_rig *rig)
{
    pgqrs_store_close(&rig->store);
}

struct pgqrs_lease_ref flow_rig_begin(struct flow_rig *rig, int64_t message_id)
{
    const struct pgqrs_want want = {.queue_id = rig->queue,
                                    .worker_id = rig->worker,
                                    .count = 1,
                                    .max_attempts = 100,
                                    .lease_ms = LEASE_MS};
    struct pgqrs_exchange x = {.wants = &want, .want_count = 1};
    struct pgqrs_error err;
    int64_t now;
    rig_ok(pgqrs_store_exchange(rig->store, &x, &err));
    assert_int_equal(x.lease_count, 1);
    assert_int_equal(x.leases[0].message_id, message_id);
    const struct pgqrs_lease_ref lease = {
        .message_id = message_id, .worker_id = rig->worker, .attempt = x.leases[0].attempt};
    pgqrs_exchange_fini(&x);
    struct pgqrs_run_open open = {.lease = lease};
    rig_ok(pgqrs_store_run_open(rig->store, rig->workflow, &open, 1, &now, &err));
    assert_true(open.held);
    pgqrs_run_open_fini(&open);
    return lease;
}

int64_t flow_rig_do(struct flow_rig *rig, struct pgqrs_flow item)
{
    struct pgqrs_error err;
    rig_ok(pgqrs_store_flow(rig->store, &item, 1, &err));
    assert_int_equal(item.settled_out, PGQRS_SETTLED_YES);
    assert_false(item.failed_out);
    int64_t output = item.output_out == NULL ? 0 : strtoll(item.output_out, NULL, 10);
    pgqrs_flow_fini(&item);
    return output;
}

void flow_rig_put(struct flow_rig *rig, struct pgqrs_lease_ref lease, struct pgqrs_step_put put)
{
    (void)flow_rig_do(rig,
                      (struct pgqrs_flow){
                          .lease = lease, .what = PGQRS_FLOW_STEP, .steps = &put, .step_count = 1});
}

void flow_rig_step(struct flow_rig *rig, struct pgqrs_lease_ref lease, const char *name,
                   const char *output)
{
    flow_rig_put(rig, lease,
                 (struct pgqrs_step_put){.name = name,
                                         .status = PGQRS_STEP_SUCCESS,
                                         .output = pgqrs_bytes_from(output),
                                         .took_ms = 12});
}

void flow_rig_end(struct flow_rig *rig, struct pgqrs_lease_ref lease, enum pgqrs_flow_what what,
                  const char *json)
{
    struct pgqrs_flow item = {.lease = lease, .what = what};
    if (what == PGQRS_FLOW_ERROR) {
        item.error = pgqrs_bytes_from(json);
    } else {
        item.output = pgqrs_bytes_from(json);
    }
    (void)flow_rig_do(rig, item);
}

void flow_rig_pause(struct flow_rig *rig, struct pgqrs_lease_ref lease, const char *event,
                    int64_t delay_ms)
{
    static const char why[] = "{\"message\": \"waits for it\", \"resume_after\": 3600}";
    (void)flow_rig_do(rig, (struct pgqrs_flow){.lease = lease,
                                               .what = PGQRS_FLOW_SUSPEND,
                                               .name = event,
                                               .delay_ms = delay_ms,
                                               .paused = true,
                                               .error = pgqrs_bytes_from(why)});
}
