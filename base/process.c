/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include <sys/prctl.h>

void pgqrs_process_close_to_others(void)
{
#ifndef __SANITIZE_ADDRESS__         /* the leak checker reads our memory too */
    (void)prctl(PR_SET_DUMPABLE, 0); /* can not fail with this argument */
#endif
}
