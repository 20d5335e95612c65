/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file of any content. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct pgqrs_config *config = NULL;
    struct pgqrs_error err;
    int fd = memfd_create("config", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        return 0;
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (pgqrs_config_load(path, &config, &err) == 0) {
        pgqrs_config_destroy(&config);
    }
    (void)close(fd);
    return 0;
}
