/* SPDX-License-Identifier: Apache-2.0 */
/* Sets a result as large as the payload, a whole number, says: a JSON text of so many bytes. */
#include <stdlib.h>
#include <string.h>

#include <pgqrs/handler.h>

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    (void)state;
    size_t size = strtoul(job->payload, NULL, 10);
    char *text = size < 2 ? NULL : malloc(size);
    if (text == NULL) {
        return pgqrs_fail(job, "bulk: payload: found %s, expected 2 or more", job->payload);
    }
    memset(text, 'x', size);
    text[0] = text[size - 1] = '"';
    int rc = job->host->set_result(job, text, size);
    free(text);
    return rc < 0 ? pgqrs_fail(job, "bulk: the result was refused") : PGQRS_DONE;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "bulk",
    .version = "1.0",
    .run = run,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
