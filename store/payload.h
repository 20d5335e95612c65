/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_STORE_PAYLOAD_H
#define PGQRS_STORE_PAYLOAD_H

/*
 * What may be enqueued: one JSON value, in its compact form, within pgqrs' default size limit.
 */

#include "base/bytes.h"
#include "base/error.h"

#define PGQRS_ENQUEUE_MAX (1024 * 1024) /* bytes of the compact form */

/*
 * Checks that text is one JSON value (of any kind, not only object) and writes its compact form to
 * out, which is cleared first. PGQRS_ERR_INVALID says where it is wrong and what was expected.
 */
int pgqrs_payload_normalise(struct pgqrs_bytes text, struct pgqrs_buf *out,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;

#endif
