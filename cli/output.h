/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_OUTPUT_H
#define PGQRS_CLI_OUTPUT_H

/*
 * What goes to standard output: tables for people, JSON for programs. Texts that come from a store
 * may be anything; control characters never reach a terminal, and JSON is always UTF-8.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"

/* The length of the UTF-8 character at the start of text, 0 when there is none. */
size_t pgqrs_utf8_length(const char *text, size_t len);
bool pgqrs_utf8_is_valid(struct pgqrs_bytes text);
/* A character of that length that a terminal may obey. */
bool pgqrs_is_control(const char *c, size_t length);

/* Control characters and bytes that are not UTF-8 are shown as \xNN. */
void pgqrs_show(struct pgqrs_buf *out, const char *text);

#define PGQRS_TIME_SIZE 28
/* RFC 3339 in UTC: with microseconds for programs, with seconds for people ("-" for 0). */
const char *pgqrs_time_json(int64_t us, char out[PGQRS_TIME_SIZE]);
const char *pgqrs_time_table(int64_t us, char out[PGQRS_TIME_SIZE]);
/* 0 for one so far away that no time is meant, as of a wait for ever. */
int64_t pgqrs_time_or_never(int64_t us);

/* ---- tables ---- */

#define PGQRS_COLUMNS_MAX 10

struct pgqrs_table {
    size_t columns;
    const char *const *headers; /* one that begins with '>' is aligned to the right */
    struct pgqrs_buf cells;     /* each terminated by a zero byte */
    size_t cell_count;
    bool whole; /* the last column is not cut */
};

struct pgqrs_table pgqrs_table_of(const char *const *headers, size_t columns);
void pgqrs_table_text(struct pgqrs_table *table, const char *text); /* the next cell, row by row */
void pgqrs_table_number(struct pgqrs_table *table, int64_t value);
/* Whether more than ASCII may be shown, as the environment says. */
bool pgqrs_is_utf8_wanted(void);
/* Prints it, the last column cut at the terminal's width (80 elsewhere), and frees it. */
void pgqrs_table_print(struct pgqrs_table *table);

/* ---- a line for each thing known of something; what is not there (null, 0) has none ---- */

void pgqrs_line(const char *name, const char *text);
void pgqrs_line_cut(const char *name, const char *text); /* at the terminal's width */
void pgqrs_line_number(const char *name, int64_t value); /* 0, too */
void pgqrs_line_time(const char *name, int64_t us);

/* ---- JSON, written as it comes ---- */

struct pgqrs_json { /* zeroed at the start of a document */
    bool comma_due;
    int depth;
};

/* Each writes the comma that is due, then the key unless it is null, then the value. */
void pgqrs_json_begin(struct pgqrs_json *json, const char *key, char bracket);    /* '{' or '[' */
void pgqrs_json_end(struct pgqrs_json *json, char bracket);                       /* '}' or ']' */
void pgqrs_json_text(struct pgqrs_json *json, const char *key, const char *text); /* or null */
void pgqrs_json_integer(struct pgqrs_json *json, const char *key, int64_t value);
void pgqrs_json_real(struct pgqrs_json *json, const char *key, double value);
void pgqrs_json_boolean(struct pgqrs_json *json, const char *key, bool value);
void pgqrs_json_time(struct pgqrs_json *json, const char *key, int64_t us); /* 0: null */
/* JSON text as it is; when it is not JSON, as a text. Null: null. */
void pgqrs_json_embed(struct pgqrs_json *json, const char *key, const char *text);
/* A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void pgqrs_json_quote(struct pgqrs_buf *out, struct pgqrs_bytes text);

/* Everything was written; else the reason is printed and the result is false. */
bool pgqrs_output_flush(void);

#endif
