/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_BASE_PROCESS_H
#define PGQRS_BASE_PROCESS_H

/*
 * For processes that know the store's credentials: no other process of this user may read their
 * memory or environment, a plugin's worker least of all. Call it first thing in main.
 */
void pgqrs_process_close_to_others(void);

#endif
