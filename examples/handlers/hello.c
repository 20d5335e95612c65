/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest handler. Build it with nothing but the header:
 *     cc -shared -fPIC -Iinclude -o hello.so hello.c
 */
#include <pgqrs/handler.h>

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    static const char result[] = "{\"greeted\": true}";
    (void)state;
    pgqrs_job_log(job, "hello, attempt %u: %s", job->attempt, job->payload);
    if (job->host->set_result(job, result, sizeof result - 1) < 0) {
        return pgqrs_fail(job, "the result was not accepted");
    }
    return PGQRS_DONE;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "hello",
    .version = "1.0",
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
