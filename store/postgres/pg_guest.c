/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgres/pg_flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "store/postgres/pg_conn.h"

#define FIRST_WORDS (sizeof first_words / sizeof *first_words)

/*
 * Statements of handlers run on the broker's connection, in its transaction: they may read and
 * change rows, but not end it, nor change the session or the schema, nor touch what is pgqrs'. That
 * is told by their words: what a function, a view, a rule or a trigger of the handler's database
 * does is not looked at, nor is text that becomes a statement there. The server takes one statement
 * at a time, since it comes with its parameters.
 */

static const char *const first_words[] = {"delete", "insert", "merge",  "select",
                                          "table",  "update", "values", "with"};
/* Made for everybody. */
static const char *const our_functions[] = {"pgqrs_enqueue", "pgqrs_enqueue_batch", "pgqrs_cancel",
                                            "pgqrs_backlog"};

struct word {
    const char *at;
    size_t len;
    bool quoted;
};

static bool is_word_start(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static bool is_word(unsigned char c)
{
    return is_word_start(c) || (c >= '0' && c <= '9') || c == '$';
}

/* Behind the comment, or null when it has no end. */
static const char *skip_comment(const char *at)
{
    int depth = 0;
    do {
        if (at[0] == '/' && at[1] == '*') {
            depth++;
            at += 2;
        } else if (at[0] == '*' && at[1] == '/') {
            depth--;
            at += 2;
        } else if (*at++ == 0) {
            return NULL;
        }
    } while (depth > 0);
    return at;
}

/* Behind what begins with this quote; a doubled one, or one behind a backslash where those count,
 * does not end it. */
static const char *skip_quoted(const char *at, bool backslashes)
{
    char quote = *at++;
    for (; *at != 0; at++) {
        bool pair = (*at == quote && at[1] == quote) || (*at == '\\' && backslashes && at[1] != 0);
        if (pair) {
            at++;
        } else if (*at == quote) {
            return at + 1;
        }
    }
    return NULL;
}

/* Behind $tag$ ... $tag$; a parameter is skipped as it is. */
static const char *skip_dollar(const char *at)
{
    size_t len = 1;
    while (is_word((unsigned char)at[len]) && at[len] != '$') {
        len++;
    }
    if (at[len] != '$' || (at[1] >= '0' && at[1] <= '9')) {
        return at + 1;
    }
    len++;
    for (const char *end = at + len; *end != 0; end++) {
        if (strncmp(end, at, len) == 0) {
            return end + len;
        }
    }
    return NULL;
}

/* The next word. False: none is left, or something has no end (*at is null then). */
static bool next_word(const char **at, struct word *word)
{
    while (*at != NULL && **at != 0) {
        const char *p = *at;
        if (p[0] == '-' && p[1] == '-') {
            *at = p + strcspn(p, "\r\n");
        } else if (p[0] == '/' && p[1] == '*') {
            *at = skip_comment(p);
        } else if (*p == '\'') {
            *at = skip_quoted(p, false);
        } else if ((*p == 'e' || *p == 'E') && p[1] == '\'') {
            *at = skip_quoted(p + 1, true);
        } else if (*p == '$') {
            *at = skip_dollar(p);
        } else if (*p == '"') {
            *at = skip_quoted(p, false);
            *word = (struct word){.at = p + 1, .quoted = true};
            word->len = *at == NULL ? 0 : (size_t)(*at - p) - 2;
            return *at != NULL;
        } else if (is_word_start((unsigned char)*p)) {
            *word = (struct word){.at = p};
            while (is_word((unsigned char)p[word->len])) {
                word->len++;
            }
            *at = p + word->len;
            return true;
        } else if (*p >= '0' && *p <= '9') {
            while (is_word((unsigned char)**at)) {
                (*at)++;
            }
        } else {
            (*at)++;
        }
    }
    return false;
}

static bool is_one_of(const struct word *word, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(names[i]) == word->len && strncasecmp(names[i], word->at, word->len) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_ours(const struct word *word)
{
    static const char *const session[] = {"set_config"};
    if (is_one_of(word, our_functions, sizeof our_functions / sizeof *our_functions)) {
        return false;
    }
    return (word->len >= 5 && strncasecmp(word->at, "pgqrs", 5) == 0) ||
           is_one_of(word, session, 1);
}

/* U&"..." may spell a name that nobody sees. */
static bool is_escaped(const struct word *word)
{
    return !word->quoted && word->len == 1 && (*word->at == 'u' || *word->at == 'U') &&
           word->at[1] == '&' && word->at[2] == '"';
}

bool pgqrs_pg_guest_may(const char *sql, char *why, size_t size)
{
    const char *at = sql;
    struct word word;
    bool first = true;
    while (next_word(&at, &word)) {
        int len = (int)(word.len < 64 ? word.len : 64);
        if (first && (word.quoted || !is_one_of(&word, first_words, FIRST_WORDS))) {
            (void)snprintf(why, size,
                           "statement: found %.*s, expected one that reads or changes rows", len,
                           word.at);
            return false;
        }
        if (is_ours(&word) || is_escaped(&word)) {
            (void)snprintf(why, size, "statement: found %.*s, expected tables that are not pgqrs'",
                           len, word.at);
            return false;
        }
        first = false;
    }
    if (first || at == NULL) {
        (void)snprintf(why, size, "statement: found %s",
                       at == NULL ? "a comment or quote without an end" : "none");
        return false;
    }
    return true;
}

/* ---- carrying out ---- */

/* The server wants them terminated. Free with free_texts. */
static char **copy_texts(const struct pgqrs_step_sql *sql, char *why, size_t size)
{
    char **texts = calloc(sql->param_count + 1, sizeof *texts);
    for (size_t i = 0; texts != NULL && i < sql->param_count; i++) {
        const struct pgqrs_bytes *param = &sql->params[i];
        if (param->data == NULL) {
            continue;
        }
        if (memchr(param->data, 0, param->len) != NULL) {
            (void)snprintf(why, size, "statement: found a zero byte in parameter %zu", i + 1);
        }
        texts[i] = strndup(param->data, param->len);
        if (texts[i] == NULL) {
            for (size_t k = 0; k < i; k++) {
                free(texts[k]);
            }
            free((void *)texts);
            return NULL;
        }
    }
    return texts;
}

static void free_texts(char **texts, size_t count)
{
    for (size_t i = 0; texts != NULL && i < count; i++) {
        free(texts[i]);
    }
    free((void *)texts);
}

/* Trouble that is no fault of the statement: conflicts with others, no room, shutting down. */
static bool is_the_servers(const struct pgqrs_error *err)
{
    return strstr(err->text, "(SQLSTATE 40") != NULL || strstr(err->text, "(SQLSTATE 53") != NULL ||
           strstr(err->text, "(SQLSTATE 57P") != NULL;
}

static int carry_out(struct pg_store *s, const struct pgqrs_step_sql *sql, char **texts, char *why,
                     size_t size, struct pgqrs_error *err)
{
    const struct pg_stmt stmt = {
        .sql = sql->text, .texts = (const char *const *)texts, .text_count = (int)sql->param_count};
    struct pgqrs_error refusal = {0};
    PGresult *result = pgqrs_pg_run(s, &stmt, NULL, false, &refusal);
    if (result == NULL && (s->conn == NULL || is_the_servers(&refusal))) {
        *err = refusal;
        return -1;
    }
    if (result == NULL) {
        (void)snprintf(why, size, "statement: %s", refusal.text);
        return 1;
    }
    PQclear(result);
    if (PQtransactionStatus(s->conn) != PQTRANS_INTRANS) {
        (void)snprintf(why, size, "statement: it has ended the transaction");
        return 1;
    }
    return 0;
}

int pgqrs_pg_guest(struct pg_store *s, const struct pgqrs_step_sql *sql, char *why, size_t size,
                   struct pgqrs_error *err)
{
    *why = 0;
    if (!pgqrs_pg_guest_may(sql->text, why, size)) {
        return 1;
    }
    char **texts = copy_texts(sql, why, size);
    if (texts == NULL) {
        return pgqrs_error_memory(err);
    }
    int rc = *why != 0 ? 1 : carry_out(s, sql, texts, why, size, err);
    free_texts(texts, sql->param_count);
    return rc;
}
