/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_PROCESS_H
#define PGQRS_BASE_PROCESS_H

/* How a process stands towards others; both are called first thing in main. */

/* A standard descriptor that is closed must not become a file of ours; writing to it must fail. */
void pgqrs_process_fill_standard_descriptors(void);

/*
 * For processes that know the store's credentials: no other process of this user may read their
 * memory or environment, a plugin's worker least of all.
 */
void pgqrs_process_close_to_others(void);

#endif
