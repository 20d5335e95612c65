/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_priv.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* PostgreSQL's binary formats: numbers are big-endian. */

#define JSONB_VERSION 1

static void put_be(struct pg_args *args, uint64_t value, size_t size)
{
    uint64_t be = htobe64(value << (64 - 8 * size));
    pgqrs_buf_put(&args->data, &be, size);
}

/* ---- one parameter ---- */

static bool begin(struct pg_args *args)
{
    if (args->count >= PG_PARAMS_MAX) {
        args->data.failed = true;
        return false;
    }
    args->starts[args->count] = args->data.len;
    return true;
}

static void end(struct pg_args *args)
{
    if (args->count < PG_PARAMS_MAX) {
        size_t len = args->data.len - args->starts[args->count];
        args->data.failed = args->data.failed || len > INT32_MAX;
        args->lengths[args->count++] = (int)len;
    }
}

static void put_number(struct pg_args *args, uint64_t value, size_t size)
{
    if (begin(args)) {
        put_be(args, value, size);
        end(args);
    }
}

void pgqrs_pg_arg_int8(struct pg_args *args, int64_t value)
{
    put_number(args, (uint64_t)value, 8);
}

void pgqrs_pg_arg_int4(struct pg_args *args, int32_t value)
{
    put_number(args, (uint32_t)value, 4);
}

void pgqrs_pg_arg_bool(struct pg_args *args, bool value)
{
    put_number(args, value ? 1 : 0, 1);
}

void pgqrs_pg_arg_null(struct pg_args *args)
{
    if (begin(args)) {
        args->lengths[args->count++] = -1;
    }
}

static void put_bytes(struct pg_args *args, struct pgqrs_bytes bytes, bool jsonb)
{
    if (jsonb) {
        pgqrs_buf_put_u8(&args->data, JSONB_VERSION);
    }
    pgqrs_buf_put(&args->data, bytes.data, bytes.len);
}

void pgqrs_pg_arg_bytes(struct pg_args *args, struct pgqrs_bytes bytes, bool jsonb)
{
    if (bytes.data == NULL) {
        pgqrs_pg_arg_null(args);
    } else if (begin(args)) {
        put_bytes(args, bytes, jsonb);
        end(args);
    }
}

void pgqrs_pg_arg_text(struct pg_args *args, const char *text)
{
    pgqrs_pg_arg_bytes(args, pgqrs_bytes_from(text), false);
}

/* ---- arrays ---- */

void pgqrs_pg_arg_array_begin(struct pg_args *args, enum pg_type item, size_t count)
{
    if (!begin(args)) {
        return;
    }
    args->data.failed = args->data.failed || count > INT32_MAX;
    put_be(args, count == 0 ? 0 : 1, 4); /* dimensions */
    put_be(args, 0, 4);                  /* whether there are NULLs: set when one comes */
    put_be(args, (unsigned)item, 4);
    if (count > 0) {
        put_be(args, count, 4);
        put_be(args, 1, 4); /* lower bound */
    }
}

static void put_item(struct pg_args *args, uint64_t value, size_t size)
{
    put_be(args, size, 4);
    put_be(args, value, size);
}

void pgqrs_pg_arg_array_int8(struct pg_args *args, int64_t value)
{
    put_item(args, (uint64_t)value, 8);
}

void pgqrs_pg_arg_array_int4(struct pg_args *args, int32_t value)
{
    put_item(args, (uint32_t)value, 4);
}

void pgqrs_pg_arg_array_bool(struct pg_args *args, bool value)
{
    put_item(args, value ? 1 : 0, 1);
}

void pgqrs_pg_arg_array_bytes(struct pg_args *args, struct pgqrs_bytes bytes, bool jsonb)
{
    if (bytes.data != NULL) {
        args->data.failed = args->data.failed || bytes.len > INT32_MAX - 1;
        put_be(args, bytes.len + (jsonb ? 1 : 0), 4);
        put_bytes(args, bytes, jsonb);
        return;
    }
    put_be(args, UINT32_MAX, 4);
    if (!args->data.failed && args->count < PG_PARAMS_MAX) {
        const uint32_t yes = htobe32(1);
        memcpy(args->data.data + args->starts[args->count] + 4, &yes, sizeof yes);
    }
}

void pgqrs_pg_arg_array_end(struct pg_args *args)
{
    end(args);
}

void pgqrs_pg_arg_leases(struct pg_args *args, const struct pgqrs_lease_ref *leases, size_t count)
{
    pgqrs_pg_arg_array_begin(args, PG_INT8, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int8(args, leases[i].message_id);
    }
    pgqrs_pg_arg_array_end(args);
    pgqrs_pg_arg_array_begin(args, PG_INT8, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int8(args, leases[i].worker_id);
    }
    pgqrs_pg_arg_array_end(args);
    pgqrs_pg_arg_array_begin(args, PG_INT4, count);
    for (size_t i = 0; i < count; i++) {
        pgqrs_pg_arg_array_int4(args, (int32_t)leases[i].attempt);
    }
    pgqrs_pg_arg_array_end(args);
}

void pgqrs_pg_args_fini(struct pg_args *args)
{
    pgqrs_buf_fini(&args->data);
    *args = (struct pg_args){0};
}

/* ---- results ---- */

bool pgqrs_pg_is_null(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) != 0;
}

int64_t pgqrs_pg_int(const PGresult *result, int row, int column)
{
    const char *at = PQgetvalue(result, row, column);
    if (pgqrs_pg_is_null(result, row, column)) {
        return 0;
    }
    if (PQgetlength(result, row, column) == 4) {
        uint32_t be;
        memcpy(&be, at, sizeof be);
        return (int32_t)be32toh(be);
    }
    uint64_t be = 0;
    if (PQgetlength(result, row, column) == 8) {
        memcpy(&be, at, sizeof be);
    }
    return (int64_t)be64toh(be);
}

int64_t pgqrs_pg_time(const PGresult *result, int row, int column)
{
    const int64_t epoch_us = INT64_C(946684800000000); /* the wire counts from the year 2000 */
    const int64_t last_us = INT64_C(253402300799000000);
    int64_t us = pgqrs_pg_int(result, row, column);
    if (pgqrs_pg_is_null(result, row, column) || us < -epoch_us) {
        return 0;
    }
    return us < last_us - epoch_us ? us + epoch_us : last_us;
}

bool pgqrs_pg_bool(const PGresult *result, int row, int column)
{
    return PQgetlength(result, row, column) == 1 && *PQgetvalue(result, row, column) != 0;
}

struct pgqrs_bytes pgqrs_pg_bytes(const PGresult *result, int row, int column)
{
    if (pgqrs_pg_is_null(result, row, column)) {
        return (struct pgqrs_bytes){0};
    }
    struct pgqrs_bytes bytes = {.data = PQgetvalue(result, row, column),
                                .len = (size_t)PQgetlength(result, row, column)};
    if (PQftype(result, column) == PG_JSONB && bytes.len > 0) {
        bytes.data++;
        bytes.len--;
    }
    return bytes;
}

int pgqrs_pg_dup(const PGresult *result, int row, int column, char **text_out,
                 struct pgqrs_error *err)
{
    struct pgqrs_bytes bytes = pgqrs_pg_bytes(result, row, column);
    char *copy = NULL;
    if (bytes.data != NULL) {
        copy = malloc(bytes.len + 1);
        if (copy == NULL) {
            return pgqrs_error_memory(err);
        }
        memcpy(copy, bytes.data, bytes.len + 1);
    }
    *text_out = copy;
    return 0;
}
