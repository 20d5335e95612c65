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
/* One that is SUCCESS with output 1, or ERROR with code "PAUSED" and a retry. */
void flow_step_of_kind(struct suite *f, struct pgqrs_lease_ref lease, const char *name,
                       enum pgqrs_step_kind kind, enum pgqrs_step_status status, int64_t retry_ms);
/* Ends the run in one of the ways, which must be applied. */
void flow_end(struct suite *f, struct pgqrs_lease_ref lease, enum pgqrs_flow_what what);
/* Starts a child of a run and begins it; event is what tells its end, and the parent may wait for
 * it. */
struct pgqrs_lease_ref flow_child(struct suite *f, struct pgqrs_lease_ref parent, char event[40],
                                  bool wait);
/* Whether it was the first of its name. */
bool flow_send(struct suite *f, int64_t message, const char *name, const char *payload);
int64_t flow_due(struct suite *f, int64_t message); /* when its message is due */

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
