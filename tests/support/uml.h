/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_SUPPORT_UML_H
#define PGQRS_TESTS_SUPPORT_UML_H

/*
 * A test program that runs itself a second time, as the first process of a User-Mode Linux (Debian:
 * user-mode-linux): a kernel of its own, whose root is the host's, for tests of what a host can
 * not be asked for.
 */

#include <stdbool.h>

/* Whether this is the second time. */
bool uml_is_inside(void);
/* Inside: proc, sys and cgroup2 are mounted, and TMPDIR is a directory in memory. Then returns what
 * run returns, to the outside, and ends the kernel. */
void uml_inside(int (*run)(void)) __attribute__((noreturn));
/* Outside: prints what was printed inside, and returns its status. -1: why_out says why no kernel
 * could be started. */
int uml_outside(const char **why_out);

#endif
