/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

void pgqrs_process_fill_standard_descriptors(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDONLY); /* children inherit it */
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        (void)close(fd); /* nothing was written */
    }
}

void pgqrs_process_close_to_others(void)
{
#ifndef __SANITIZE_ADDRESS__         /* the leak checker reads our memory too */
    (void)prctl(PR_SET_DUMPABLE, 0); /* can not fail with this argument */
#endif
}
