/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_STORE_SUITE_FLOW_H
#define PGQRS_TESTS_STORE_SUITE_FLOW_H

/* What the cases about workflows have in common. A store that keeps none skips them. */

#include "store/workflow.h"
#include "tests/support/store_suite.h"

/* The definition "flow"; from then on f->queue is its queue. Returns the definition's id. */
int64_t flow_make(struct suite *f);
int64_t flow_trigger(struct suite *f, const char *input);
/* Opens the run of a message that is leased; it must hold. Free with pgqrs_run_open_fini. */
struct pgqrs_run_open flow_open(struct suite *f, struct pgqrs_lease_ref lease);
/* Leases the next message of the queue and opens its run. */
struct pgqrs_lease_ref flow_begin(struct suite *f);
/* Triggers one and begins it. */
struct pgqrs_lease_ref flow_start(struct suite *f);

struct pgqrs_flow flow_item(struct pgqrs_lease_ref lease, enum pgqrs_flow_what what);
enum pgqrs_settled flow_do(struct suite *f, struct pgqrs_flow *item);
/* A step that is SUCCESS, stored alone. */
void flow_step(struct suite *f, struct pgqrs_lease_ref lease, const char *name, const char *output);
/* Suspends a run for an event, or null, as paused. */
void flow_pause(struct suite *f, struct pgqrs_lease_ref lease, const char *event, int64_t delay_ms);

enum pgqrs_run_status flow_status(struct suite *f, int64_t message);
/* output and error are JSON, or null for none. */
void flow_assert_run(struct suite *f, int64_t message, enum pgqrs_run_status status,
                     const char *output, const char *error);
/* The only run there is of the message; free with pgqrs_run_list_fini. */
struct pgqrs_run_list flow_run(struct suite *f, int64_t message);
struct pgqrs_step_list flow_steps(struct suite *f, int64_t message);
/* The payload of an event; null: it was not sent. */
void flow_assert_event(struct suite *f, int64_t message, const char *name, const char *payload);
/* How many rows of a table there are, by another program's statement. */
void flow_assert_rows(struct suite *f, const char *table, int count);

#endif
