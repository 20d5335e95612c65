/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_TMUX_H
#define PGQRS_TESTS_SUPPORT_TMUX_H

/*
 * A terminal of its own for a test: a private tmux server with one shell in it, where "p" is
 * bin/pgqrs. It ends with the test, however that ends.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "tests/support/daemon.h"

#define TMUX_SCREEN_MAX 65536

struct tmux {
    const struct scratch *scratch;
    pid_t pid;
    char screen[TMUX_SCREEN_MAX]; /* as it was looked at last */
};

bool tmux_is_installed(void);
void tmux_start(struct tmux *t, const struct scratch *s, int columns, int lines);
void tmux_stop(struct tmux *t); /* does nothing when it has not been started */
/* A command of tmux: "send-keys Tab s", "resize-window -x 60 -y 15". */
void tmux_do(const struct tmux *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Types a line to the shell. */
void tmux_line(const struct tmux *t, const char *line);
/* Looks at the screen: its lines, without blanks at their ends. */
const char *tmux_look(struct tmux *t);
/* Waits until the screen has the text, or has it no more; fails the test at a deadline. */
void tmux_await(struct tmux *t, const char *text);
void tmux_await_no(struct tmux *t, const char *text);

#endif
