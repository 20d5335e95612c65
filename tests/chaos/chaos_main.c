/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   chaos BUILD [STORE [MINUTES [SEED]]]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tests/chaos/chaos.h"

int main(int argc, char **argv)
{
    struct chaos_options options = {.duration_ms = 60000};
    if (argc < 2 || argc > 5 || setenv("PGQRS_TEST_BUILD", argv[1], 1) < 0) {
        (void)fprintf(stderr, "usage: chaos BUILD [sqlite|postgres [MINUTES [SEED]]]\n");
        return 2;
    }
    options.postgres = argc > 2 && strcmp(argv[2], "postgres") == 0;
    if (argc > 3) {
        options.duration_ms = (int64_t)(strtod(argv[3], NULL) * 60000);
    }
    if (argc > 4) {
        options.seed = strtoull(argv[4], NULL, 10);
    } else if (getrandom(&options.seed, sizeof options.seed, 0) < 0) {
        perror("getrandom");
        return 1;
    }
    return chaos(&options) == 0 ? 0 : 1;
}
