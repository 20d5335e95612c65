/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_HTTP_SCRIPT_H
#define PGQRS_TESTS_SUPPORT_HTTP_SCRIPT_H

/* A tiny HTTP server on 127.0.0.1, on a thread of its own. It gives every request the same answer
 * and keeps the last request for the test to look at. */

struct http_script;

/* answer: status line and headers, each ended by \r\n, without the empty line; null: none, the
 * connection stays open. file, if not null, is created with a byte in it by the first request. */
struct http_script *http_script_start(const char *answer, const char *file);
int http_script_port(const struct http_script *script);
/* Stops the server and returns the last request, for the caller to free; empty when none came. */
char *http_script_stop(struct http_script *script);

#endif
