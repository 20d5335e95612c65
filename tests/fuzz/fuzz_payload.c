/* SPDX-License-Identifier: Apache-2.0 */
/* A payload of any content; what is taken must be taken again, and not change a second time; the
 * rules take all of it when they are off, and judge both forms alike. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pgqrs_buf once = {0};
    struct pgqrs_buf twice = {0};
    struct pgqrs_error err;
    const struct pgqrs_bytes text = {.data = (const char *)data, .len = size};
    if (pgqrs_payload_normalise(text, &once, &err) == 0) {
        const struct pgqrs_bytes normal = {.data = (const char *)once.data, .len = once.len};
        if (pgqrs_payload_normalise(normal, &twice, &err) < 0 || twice.len != once.len ||
            memcmp(once.data, twice.data, once.len) != 0) {
            abort();
        }
        const struct pgqrs_payload_rules rules = pgqrs_payload_rules_default();
        const struct pgqrs_payload_rules off = {PGQRS_RULE_OFF, PGQRS_RULE_OFF, PGQRS_RULE_OFF,
                                                NULL, NULL};
        if (pgqrs_payload_check(&off, text, &twice, &err) < 0 ||
            pgqrs_payload_check(&rules, text, &twice, &err) !=
                pgqrs_payload_check(&rules, normal, &twice, &err)) {
            abort();
        }
    }
    pgqrs_buf_fini(&once);
    pgqrs_buf_fini(&twice);
    return 0;
}
