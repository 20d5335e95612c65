/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_rate.h"

#include <string.h>

#define SAMPLE_EVERY_MS 500

void pgqrs_top_rate_add(struct pgqrs_top_rate *rate, int64_t ms, int64_t value)
{
    struct pgqrs_top_sample *samples = rate->samples;
    if (rate->count > 0 && value < samples[rate->count - 1].value) {
        rate->count = 0;
    }
    if (rate->count >= 2 && ms - samples[rate->count - 2].ms < SAMPLE_EVERY_MS) {
        rate->count--; /* the last one came too soon to be kept */
    } else if (rate->count == PGQRS_TOP_SAMPLES) {
        memmove(samples, samples + 1, (PGQRS_TOP_SAMPLES - 1) * sizeof *samples);
        rate->count--;
    }
    samples[rate->count++] = (struct pgqrs_top_sample){.ms = ms, .value = value};
}

double pgqrs_top_rate_per_s(const struct pgqrs_top_rate *rate)
{
    if (rate->count < 2) {
        return -1;
    }
    const struct pgqrs_top_sample *first = &rate->samples[0];
    const struct pgqrs_top_sample *last = &rate->samples[rate->count - 1];
    return last->ms <= first->ms
               ? -1
               : (double)(last->value - first->value) * 1000 / (double)(last->ms - first->ms);
}
