/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and replies of a store, as the broker and its client read them. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/store_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was taken can be sent, and is the same then. */
static void check_same(const struct pgqrs_buf *out, const uint8_t *data, size_t size)
{
    if (out->len != PGQRS_FRAME_HEADER + size ||
        (size > 0 && memcmp(out->data + PGQRS_FRAME_HEADER, data, size) != 0)) {
        abort();
    }
}

static void read_call(const uint8_t *data, size_t size)
{
    const struct pgqrs_frame frame = {.type = PGQRS_MSG_STORE_CALL, .body = data, .len = size};
    struct pgqrs_store_call call;
    struct pgqrs_buf out = {0};
    if (pgqrs_decode_store_call(&frame, &call, NULL) < 0) {
        return;
    }
    if (pgqrs_encode_store_call(&out, &call, NULL) == 0) {
        check_same(&out, data, size);
    }
    pgqrs_buf_fini(&out);
    pgqrs_store_call_fini(&call);
}

static void read_reply(const uint8_t *data, size_t size)
{
    const struct pgqrs_frame frame = {.type = PGQRS_MSG_STORE_REPLY, .body = data, .len = size};
    struct pgqrs_store_reply reply;
    struct pgqrs_buf out = {0};
    if (pgqrs_decode_store_reply(&frame, &reply, NULL) < 0) {
        return;
    }
    /* A long text of an error is cut when it is taken. */
    if (reply.rc >= 0 && pgqrs_encode_store_reply(&out, &reply, NULL) == 0) {
        check_same(&out, data, size);
    }
    pgqrs_buf_fini(&out);
    pgqrs_store_reply_fini(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pgqrs_frame frame;
    struct pgqrs_client_hello hello;
    struct pgqrs_client_welcome welcome;
    size_t used;
    (void)!pgqrs_msg_parse(data, size, PGQRS_ROLE_CLIENT, PGQRS_ROLE_BROKER, &frame, &used, NULL);
    (void)!pgqrs_msg_parse(data, size, PGQRS_ROLE_BROKER, PGQRS_ROLE_CLIENT, &frame, &used, NULL);
    frame = (struct pgqrs_frame){.type = PGQRS_MSG_CLIENT_HELLO, .body = data, .len = size};
    (void)!pgqrs_decode_client_hello(&frame, &hello, NULL);
    (void)!pgqrs_decode_client_welcome(&frame, &welcome, NULL);
    read_call(data, size);
    read_reply(data, size);
    return 0;
}
