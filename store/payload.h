/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_PAYLOAD_H
#define PGQRS_STORE_PAYLOAD_H

/*
 * What may be enqueued: one JSON value, in its compact form, within pgqrs' default size limit; and
 * the rules that pgqrs' own clients hold payloads to.
 */

#include <limits.h>

#include "base/bytes.h"
#include "base/error.h"

#define PGQRS_ENQUEUE_MAX (1024 * 1024) /* bytes of the compact form */

/*
 * Checks that text is one JSON value (of any kind, not only object) and writes its compact form to
 * out, which is cleared first. PGQRS_ERR_INVALID says where it is wrong and what was expected.
 */
int pgqrs_payload_normalise(struct pgqrs_bytes text, struct pgqrs_buf *out,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* pgqrs' validation_config, by its names. */
struct pgqrs_payload_rules {
    uint32_t max_payload_size_bytes;   /* of the compact form; never over PGQRS_ENQUEUE_MAX */
    uint32_t max_string_length;        /* bytes of a string, keys too, with its escapes undone */
    uint32_t max_object_depth;         /* the outermost value is at 0, what it holds at 1 */
    const char *const *forbidden_keys; /* of every object; null at the end; null: none */
    const char *const *required_keys;  /* of the outermost object, if it is one; as above */
};

#define PGQRS_RULE_OFF UINT_MAX /* a limit that nothing reaches; of the size: PGQRS_ENQUEUE_MAX */

/* pgqrs' defaults: 1 MiB, strings of 1024 bytes, depth 5, no "__proto__" and no "constructor". */
struct pgqrs_payload_rules pgqrs_payload_rules_default(void);

/*
 * As pgqrs_payload_normalise, then holds the payload to the rules. The error names the rule, what
 * was found and what was expected; a caller with several payloads puts the index before it.
 */
int pgqrs_payload_check(const struct pgqrs_payload_rules *rules, struct pgqrs_bytes text,
                        struct pgqrs_buf *out, struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
