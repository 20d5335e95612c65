/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_GATEWAY_EXPOSITION_H
#define PGQRS_GATEWAY_EXPOSITION_H

/* Prometheus' text format 0.0.4. */

#include <event2/buffer.h>
#include <jansson.h>

#define PGQRS_LABELS_MAX 3

struct pgqrs_label {
    const char *name, *value; /* name null: none */
};
struct pgqrs_labels {
    struct pgqrs_label of[PGQRS_LABELS_MAX];
};

void pgqrs_expose_head(struct evbuffer *out, const char *name, const char *type, const char *help);
/* labels: null, or some. */
void pgqrs_expose(struct evbuffer *out, const char *name, const struct pgqrs_labels *labels,
                  double value);
/* Head and the one sample. */
void pgqrs_expose_one(struct evbuffer *out, const char *name, const char *type, const char *help,
                      double value);
/* A sample for each key of the object, which is the value of the last label. */
void pgqrs_expose_each(struct evbuffer *out, const char *name, const char *queue, const char *label,
                       const json_t *object);
/* The samples of one histogram, as the supervisor describes it; without it there are none. */
void pgqrs_expose_histogram(struct evbuffer *out, const char *name, struct pgqrs_label label,
                            const json_t *histogram);

#endif
