/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_STORE_RANDOM_H
#define PGQRS_TESTS_STORE_RANDOM_H

/*
 * Thousands of random operations on a store and on the model, by several clients in turn; whatever
 * comes back must be the same, and every so often all that is stored must be. A sequence that ends
 * in a difference is made as short as it will go and printed.
 *
 * PGQRS_TEST_SEED and PGQRS_TEST_STEPS set the seed (printed) and the number of operations.
 */

#include "tests/support/store_model.h"
#include "tests/support/store_suite.h"

/* Runs it as one cmocka test; returns how many failed. */
int pgqrs_store_random_run(const struct suite_backend *backend);

/* ---- between its files ---- */

#define RANDOM_CLIENTS 3
#define RANDOM_RECENT 64

struct random_ids { /* an id of the model, less one, is the index of the real one */
    int64_t *real;
    size_t count;
};

struct random_run {
    const struct suite_backend *backend;
    struct pgqrs_store *clients[RANDOM_CLIENTS];
    size_t client_count;
    struct pgqrs_store *store; /* the client whose turn it is */
    struct pgqrs_store *model;
    int64_t now_us;
    struct random_ids queues, workers, messages;
    struct pgqrs_lease_ref recent[RANDOM_RECENT]; /* leases given, ids of the model */
    size_t recent_count;
    uint64_t rng;
    bool printing; /* each operation is printed */
    char what[1000];
    char wrong[1000]; /* empty: nothing is */
};

/* Zero when it failed differently, or only one failed: r->wrong tells. */
bool random_same_rc(struct random_run *r, int64_t model_rc, const struct pgqrs_error *model_err,
                    int64_t rc, const struct pgqrs_error *err);
void random_wrong(struct random_run *r, const char *fmt, ...) PGQRS_PRINTF(2, 3);
void random_say(struct random_run *r, const char *fmt, ...) PGQRS_PRINTF(2, 3);
bool random_same_time(const struct random_run *r, int64_t a, int64_t b);
int64_t random_real(const struct random_ids *ids, int64_t model_id);
int64_t random_model(const struct random_ids *ids, int64_t real_id);
/* Notes that the model and the store have made something. */
void random_pair(struct random_run *r, struct random_ids *ids, const char *kind, int64_t model_id,
                 int64_t real_id);

/* From 0 to n - 1. */
uint32_t random_below(struct random_run *r, uint32_t n);

/* One operation, whatever the seed says. */
void random_step(struct random_run *r, uint64_t seed);
/* All that is stored. */
void random_compare(struct random_run *r);

/* Gives both the same call; up to three workers. */
void random_same_orders(struct random_run *r, const int64_t *ids, size_t count, bool beat);

#endif
