/* SPDX-License-Identifier: Apache-2.0 */
/* A shared object that is not a plugin. */

__attribute__((visibility("default"))) int not_a_handler(void);

int not_a_handler(void)
{
    return 0;
}
