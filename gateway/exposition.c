/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/exposition.h"

#include <stdio.h>

void pgqrs_expose_head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
    (void)evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_value(struct evbuffer *out, const char *value)
{
    for (; *value != 0; value++) {
        const char *escaped = *value == '\\'   ? "\\\\"
                              : *value == '"'  ? "\\\""
                              : *value == '\n' ? "\\n"
                                               : NULL;
        (void)evbuffer_add(out, escaped == NULL ? value : escaped, escaped == NULL ? 1 : 2);
    }
}

void pgqrs_expose(struct evbuffer *out, const char *name, const struct pgqrs_labels *labels,
                  double value)
{
    const char *between = "{";
    (void)evbuffer_add_printf(out, "%s", name);
    for (size_t i = 0; labels != NULL && i < PGQRS_LABELS_MAX; i++) {
        if (labels->of[i].name != NULL) {
            (void)evbuffer_add_printf(out, "%s%s=\"", between, labels->of[i].name);
            put_value(out, labels->of[i].value);
            (void)evbuffer_add(out, "\"", 1);
            between = ",";
        }
    }
    (void)evbuffer_add_printf(out, "%s %.15g\n", *between == ',' ? "}" : "", value);
}

void pgqrs_expose_one(struct evbuffer *out, const char *name, const char *type, const char *help,
                      double value)
{
    pgqrs_expose_head(out, name, type, help);
    pgqrs_expose(out, name, NULL, value);
}

void pgqrs_expose_each(struct evbuffer *out, const char *name, const char *queue, const char *label,
                       const json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) /* it changes nothing */
    {
        pgqrs_expose(
            out, name,
            &(const struct pgqrs_labels){{{queue == NULL ? NULL : "queue", queue}, {label, key}}},
            json_number_value(value));
    }
}

void pgqrs_expose_histogram(struct evbuffer *out, const char *name, struct pgqrs_label label,
                            const json_t *histogram)
{
    char series[128];
    const char *bound;
    json_t *count;
    json_t *buckets = json_object_get(histogram, "buckets");
    (void)snprintf(series, sizeof series, "%s_bucket", name);
    json_object_foreach(buckets, bound, count)
    {
        pgqrs_expose(out, series, &(const struct pgqrs_labels){{label, {"le", bound}}},
                     json_number_value(count));
    }
    if (json_object_size(buckets) > 0) {
        (void)snprintf(series, sizeof series, "%s_sum", name);
        pgqrs_expose(out, series, &(const struct pgqrs_labels){{label}},
                     json_number_value(json_object_get(histogram, "sum")));
        (void)snprintf(series, sizeof series, "%s_count", name);
        pgqrs_expose(out, series, &(const struct pgqrs_labels){{label}},
                     json_number_value(json_object_get(buckets, "+Inf")));
    }
}
