/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_HTTP_ASK_H
#define PGQRS_TESTS_SUPPORT_HTTP_ASK_H

/* A client of a real pgqrsd's gateway. One at a time; what was answered last is kept. */

#include <stddef.h>
#include <stdint.h>

#include "tests/support/daemon.h"

/* The gateway of this daemon, which listens at a port that the kernel has chosen. */
void http_find(const struct daemon *daemon);
/* A connection to it. */
int http_dial(void);
/* One through which little fits at a time. */
int http_dial_narrow(void);
/* Sends this and reads what comes until the peer closes; the status, 0 when there is none. */
int http_say(const char *request, size_t len);
int http_ask(const char *method, const char *path);
extern char http_answer[2 * 1024 * 1024]; /* all of it */
const char *http_body(void);
/* Asks until it is answered so, with the text in the body. */
void http_await(const char *path, int status, const char *text);

/* Of the last answer: the value of a series, written as Prometheus does; -1: it is not there. */
int64_t http_metric(const char *series);
double http_metric_real(const char *series);
void http_await_metric(const char *series, int64_t value);

#endif
