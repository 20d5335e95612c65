/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes from a peer, as the broker, a worker and the supervisor read them. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/msg_flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_results(const struct pgqrs_frame *f)
{
    struct pgqrs_job_list list = pgqrs_job_list_of(f);
    struct pgqrs_job_result m;
    while (pgqrs_next_job_result(&list, &m, NULL) > 0) {
        pgqrs_job_result_fini(&m);
    }
}

static void read_lists(const struct pgqrs_frame *f)
{
    struct pgqrs_job_list list = pgqrs_job_list_of(f);
    struct pgqrs_job_lease lease;
    while (pgqrs_next_job_lease(&list, &lease, NULL) > 0) {
    }
    list = pgqrs_job_list_of(f);
    struct pgqrs_job_settled settled;
    while (pgqrs_next_job_settled(&list, &settled, NULL) > 0) {
    }
}

static void read_control(const struct pgqrs_frame *f)
{
    struct pgqrs_child_hello hello;
    struct pgqrs_worker_welcome worker;
    struct pgqrs_worker_started started;
    struct pgqrs_worker_ended ended;
    struct pgqrs_child_beat beat;
    struct pgqrs_complaint complaint;
    struct pgqrs_order order;
    struct pgqrs_queue_load load;
    struct pgqrs_queue_settings *queues;
    uint32_t serial;
    size_t count;
    struct pgqrs_broker_welcome broker;
    (void)!pgqrs_decode_child_hello(f, &hello, NULL);
    (void)!pgqrs_decode_worker_welcome(f, &worker, NULL);
    (void)!pgqrs_decode_worker_started(f, &started, NULL);
    (void)!pgqrs_decode_worker_ended(f, &ended, NULL);
    (void)!pgqrs_decode_child_beat(f, &beat, NULL);
    (void)!pgqrs_decode_complaint(f, &complaint, NULL);
    (void)!pgqrs_decode_order(f, &order, NULL);
    (void)!pgqrs_decode_queue_load(f, &load, NULL);
    if (pgqrs_decode_broker_queues(f, &serial, &queues, &count, NULL) == 0) {
        free(queues);
    }
    if (pgqrs_decode_broker_welcome(f, &broker, NULL) == 0) {
        pgqrs_broker_welcome_fini(&broker);
    }
}

static void compare(const struct pgqrs_buf *out, const struct pgqrs_frame *f)
{
    if (out->len != PGQRS_FRAME_HEADER + f->len ||
        (f->len > 0 && memcmp(out->data + PGQRS_FRAME_HEADER, f->body, f->len) != 0)) {
        abort();
    }
}

/* What can be read is written as it was. */
static void read_flow(const struct pgqrs_frame *f)
{
    struct pgqrs_job_flow ask;
    struct pgqrs_job_flowed answer;
    struct pgqrs_buf out = {0};
    if (pgqrs_decode_job_flow(f, &ask, NULL) == 0) {
        pgqrs_encode_job_flow(&out, &ask);
        compare(&out, f);
        pgqrs_job_flow_fini(&ask);
    }
    pgqrs_buf_clear(&out);
    if (pgqrs_decode_job_flowed(f, &answer, NULL) == 0) {
        pgqrs_encode_job_flowed(&out, &answer);
        compare(&out, f);
        pgqrs_job_flowed_fini(&answer);
    }
    pgqrs_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pgqrs_frame frame;
    struct pgqrs_job_hello hello;
    size_t used;
    (void)!pgqrs_msg_parse(data, size, PGQRS_ROLE_WORKER, PGQRS_ROLE_BROKER, &frame, &used, NULL);
    (void)!pgqrs_msg_parse(data, size, PGQRS_ROLE_BROKER, PGQRS_ROLE_WORKER, &frame, &used, NULL);

    /* Every decoder on the bare bytes: the type is only a number of the header. */
    frame = (struct pgqrs_frame){.type = PGQRS_MSG_JOB_RESULTS, .body = data, .len = size};
    read_results(&frame);
    read_lists(&frame);
    read_control(&frame);
    read_flow(&frame);
    if (pgqrs_decode_job_hello(&frame, &hello, NULL) == 0) {
        pgqrs_job_hello_fini(&hello);
    }
    return 0;
}
