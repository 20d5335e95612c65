/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_FLOW_RIG_H
#define PGQRS_TESTS_FLOW_RIG_H

/* What a broker does to runs for its workers, straight on a store: for tests of those who look at
 * runs. A failure fails the test. */

#include "store/workflow.h"

struct flow_rig {
    struct pgqrs_store *store;
    int64_t workflow, queue, worker;
};

/* Opens the store, where the workflow is, and registers a worker "host/w". */
void flow_rig_open(struct flow_rig *rig, const char *dsn, const char *schema, const char *workflow);
void flow_rig_close(struct flow_rig *rig);
/* Leases the message that is due, which must be this one, and begins its run, or goes on with it.
 */
struct pgqrs_lease_ref flow_rig_begin(struct flow_rig *rig, int64_t message_id);
/* Applies the item, whose lease must hold; returns its output_out as a number. */
int64_t flow_rig_do(struct flow_rig *rig, struct pgqrs_flow item);
/* A step that has ended so: output or error is JSON. */
void flow_rig_step(struct flow_rig *rig, struct pgqrs_lease_ref lease, const char *name,
                   const char *output);
void flow_rig_put(struct flow_rig *rig, struct pgqrs_lease_ref lease, struct pgqrs_step_put put);
/* The run ends, or goes on as another one: json is its output or its error. */
void flow_rig_end(struct flow_rig *rig, struct pgqrs_lease_ref lease, enum pgqrs_flow_what what,
                  const char *json);
/* It sleeps, or waits for an event. */
void flow_rig_pause(struct flow_rig *rig, struct pgqrs_lease_ref lease, const char *event,
                    int64_t delay_ms);

#endif
