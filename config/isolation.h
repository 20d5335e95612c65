/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CONFIG_ISOLATION_H
#define PGQRS_CONFIG_ISOLATION_H

/* What `isolation` of a queue names, looked up. Errors read "found ..., expected ...". */

#include "config/config.h"
#include "config/yaml_tree.h"

/* A list of variables as text, with a space behind each; free *text_out. *line is the error's. */
int pgqrs_isolation_names(const struct pgqrs_yaml_node *list, char **text_out, size_t *line,
                          struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* User and group become numbers; all of it is checked. *setting_out is what the error is about. */
int pgqrs_isolation_resolve(struct pgqrs_config_isolation *isolation, const char **setting_out,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
void pgqrs_isolation_fini(struct pgqrs_config_isolation *isolation);

#endif
