/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is started with this stops before its main: what is resident then is the price of
 * its libraries. */
#include <unistd.h>

static void __attribute__((constructor)) stay(void)
{
    for (;;) {
        (void)pause();
    }
}
