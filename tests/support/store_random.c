/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/store_random.h"

#include <stdio.h>
#include <stdlib.h>

#define STEPS 3000
#define COMPARE_EVERY 25
#define SHRINK_MS 30000
#define NOBODY INT64_C(99999999) /* an id that nothing has */

/* ---- small parts ---- */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint32_t random_below(struct random_run *r, uint32_t n)
{
    return (uint32_t)(next_random(&r->rng) % n);
}

void random_wrong(struct random_run *r, const char *fmt, ...)
{
    if (r->wrong[0] != 0) {
        return; /* the first difference tells most */
    }
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(r->wrong, sizeof r->wrong, fmt, args);
    va_end(args);
}

void random_say(struct random_run *r, const char *fmt, ...)
{
    size_t len = strlen(r->what);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(r->what + len, sizeof r->what - len, fmt, args);
    va_end(args);
}

bool random_same_rc(struct random_run *r, int64_t model_rc, const struct pgqrs_error *model_err,
                    int64_t rc, const struct pgqrs_error *err)
{
    if (model_rc != rc) {
        random_wrong(r, "returned %lld (%s), expected %lld (%s)", (long long)rc,
                     rc < 0 ? err->text : "", (long long)model_rc,
                     model_rc < 0 ? model_err->text : "");
        return false;
    }
    if (rc < 0 && err->code != model_err->code) {
        random_wrong(r, "failed with %d (%s), expected %d (%s)", (int)err->code, err->text,
                     (int)model_err->code, model_err->text);
        return false;
    }
    return rc >= 0;
}

/* Stores differ in what they take for the end of time. */
bool random_same_time(const struct random_run *r, int64_t a, int64_t b)
{
    const int64_t far_us = r->now_us + INT64_C(40) * 365 * 86400 * 1000000;
    return a == b || (a > far_us && b > far_us);
}

int64_t random_real(const struct random_ids *ids, int64_t model_id)
{
    return model_id >= 1 && (size_t)model_id <= ids->count ? ids->real[model_id - 1]
           : model_id == 0                                 ? 0
                                                           : NOBODY;
}

int64_t random_model(const struct random_ids *ids, int64_t real_id)
{
    for (size_t i = ids->count; i-- > 0;) {
        if (ids->real[i] == real_id) {
            return (int64_t)i + 1;
        }
    }
    return real_id == 0 ? 0 : -1;
}

void random_pair(struct random_run *r, struct random_ids *ids, const char *kind, int64_t model_id,
                 int64_t real_id)
{
    if ((size_t)model_id <= ids->count) {
        if (ids->real[model_id - 1] != real_id) {
            random_wrong(r, "%s: found the id of %lld, expected that of %lld", kind,
                         (long long)random_model(ids, real_id), (long long)model_id);
        }
        return;
    }
    if ((size_t)model_id != ids->count + 1 || real_id <= 0 ||
        (ids->count > 0 && real_id <= ids->real[ids->count - 1])) {
        random_wrong(r, "%s %lld: the new id %lld is not above the last", kind, (long long)model_id,
                     (long long)real_id);
        return;
    }
    int64_t *more = realloc(ids->real, (ids->count + 1) * sizeof *more);
    if (more == NULL) {
        abort();
    }
    ids->real = more;
    ids->real[ids->count++] = real_id;
}

/* ---- one run ---- */

static void begin(struct random_run *r)
{
    const struct suite_backend *b = r->backend;
    struct pgqrs_error err;
    r->now_us = SUITE_START_US;
    pgqrs_clock_set_wall(r->now_us);
    r->clients[0] = b->open(b->arg);
    r->client_count = 1;
    if (pgqrs_store_install(r->clients[0], &err) < 0) {
        random_wrong(r, "install: %s", err.text);
    }
    if (b->set_clock != NULL) {
        b->set_clock(b->arg, r->clients[0], r->now_us);
    }
    while (b->open_again != NULL && r->client_count < RANDOM_CLIENTS) {
        r->clients[r->client_count++] = b->open_again(b->arg);
    }
    r->model = model_open();
}

static void finish(struct random_run *r)
{
    struct pgqrs_error err;
    if (pgqrs_store_verify(r->clients[0], &err) < 0) {
        random_wrong(r, "verify: %s", err.text);
    }
    while (r->client_count > 1) {
        pgqrs_store_close(&r->clients[--r->client_count]);
    }
    r->backend->close(r->backend->arg, r->clients[0]);
    pgqrs_store_close(&r->model);
    pgqrs_clock_set_wall(0);
    free(r->queues.real);
    free(r->workers.real);
    free(r->messages.real);
}

/* Runs the steps; returns how many were made before a difference was seen, count + 1 for none. */
static size_t run(struct random_run *r, const uint64_t *seeds, size_t count, size_t every)
{
    size_t at = 0;
    begin(r);
    while (at < count && r->wrong[0] == 0) {
        r->what[0] = 0;
        r->store = r->clients[seeds[at] % r->client_count];
        random_step(r, seeds[at]);
        at++;
        if (r->wrong[0] == 0 && (at % every == 0 || at == count)) {
            random_compare(r);
        }
        if (r->printing) {
            print_message("  %4zu. %s\n", at, r->what);
        }
    }
    finish(r);
    return r->wrong[0] == 0 ? count + 1 : at;
}

/* ---- making it short ---- */

static size_t attempt(const struct suite_backend *backend, const uint64_t *seeds, size_t count,
                      size_t every)
{
    struct random_run *r = calloc(1, sizeof *r);
    if (r == NULL) {
        abort();
    }
    r->backend = backend;
    size_t at = run(r, seeds, count, every);
    free(r);
    return at;
}

/* Drops every part that is not needed for a difference, from halves to single steps. */
static size_t shrink(const struct suite_backend *backend, uint64_t *seeds, size_t count)
{
    uint64_t *less = calloc(count + 1, sizeof *less);
    int64_t deadline_ms = pgqrs_mono_ms() + SHRINK_MS;
    if (less == NULL) {
        abort();
    }
    for (size_t part = (count + 1) / 2; part > 0;) {
        bool dropped = false;
        for (size_t at = 0; at < count && pgqrs_mono_ms() < deadline_ms;) {
            size_t len = at + part > count ? count - at : part;
            memcpy(less, seeds, at * sizeof *less);
            memcpy(less + at, seeds + at + len, (count - at - len) * sizeof *less);
            size_t failed_at = attempt(backend, less, count - len, count < 300 ? 1 : 10);
            if (failed_at <= count - len) {
                count = failed_at;
                memcpy(seeds, less, count * sizeof *less);
                dropped = true;
            } else {
                at += len;
            }
        }
        if (pgqrs_mono_ms() >= deadline_ms) {
            break;
        }
        part = part > 1 ? (part + 1) / 2 : dropped ? 1 : 0;
    }
    free(less);
    return count;
}

static void tell(const struct suite_backend *backend, uint64_t seed, uint64_t *seeds, size_t count)
{
    print_message("a difference after %zu steps; making them fewer\n", count);
    count = shrink(backend, seeds, count);
    print_message("%s: seed %llu, %zu steps are enough:\n", backend->name, (unsigned long long)seed,
                  count);
    struct random_run *r = calloc(1, sizeof *r);
    if (r == NULL) {
        abort();
    }
    r->backend = backend;
    r->printing = true;
    (void)run(r, seeds, count, 1);
    char wrong[sizeof r->wrong];
    memcpy(wrong, r->wrong, sizeof wrong);
    free(r);
    fail_msg("%s", wrong);
}

static uint64_t from_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL || text[0] == 0 ? otherwise : strtoull(text, NULL, 0);
}

static void model_and_store_agree(void **state)
{
    const struct suite_backend *backend = *state;
    uint64_t seed = from_env("PGQRS_TEST_SEED", (uint64_t)pgqrs_wall_us());
    size_t count = (size_t)from_env("PGQRS_TEST_STEPS", STEPS);
    print_message("%s: PGQRS_TEST_SEED=%llu PGQRS_TEST_STEPS=%zu\n", backend->name,
                  (unsigned long long)seed, count);
    uint64_t *seeds = calloc(count + 1, sizeof *seeds);
    assert_non_null(seeds);
    uint64_t rng = seed;
    for (size_t i = 0; i < count; i++) {
        seeds[i] = next_random(&rng);
    }
    size_t at = attempt(backend, seeds, count, COMPARE_EVERY);
    if (at <= count) {
        tell(backend, seed, seeds, at);
    }
    free(seeds);
}

int pgqrs_store_random_run(const struct suite_backend *backend)
{
    char name[100];
    (void)snprintf(name, sizeof name, "%s random", backend->name);
    struct CMUnitTest cases[] = {cmocka_unit_test(model_and_store_agree)};
    cases[0].initial_state = (void *)(uintptr_t)backend;
    return _cmocka_run_group_tests(name, cases, 1, NULL, NULL);
}
