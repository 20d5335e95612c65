/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/store_msg.h"

#include <string.h>

#include "ipc/store_wire.h"

#define VERSION_MAX 64

/* ---- hello ---- */

void pgqrs_encode_client_hello(struct pgqrs_buf *out, const struct pgqrs_client_hello *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_CLIENT_HELLO);
    pgqrs_buf_put_u16(out, m->major);
    pgqrs_buf_put_u16(out, m->minor);
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->version));
    pgqrs_msg_end(out, start);
}

static int malformed(const struct pgqrs_frame *f, struct pgqrs_error *err)
{
    return pgqrs_error_set(err, PGQRS_ERR_PROTOCOL, "malformed message %s",
                           pgqrs_msg_descs[f->type].name);
}

int pgqrs_decode_client_hello(const struct pgqrs_frame *f, struct pgqrs_client_hello *m,
                              struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    m->major = pgqrs_read_u16(&r);
    m->minor = pgqrs_read_u16(&r);
    m->version = pgqrs_read_text(&r, VERSION_MAX);
    return pgqrs_reader_done(&r) ? 0 : malformed(f, err);
}

void pgqrs_encode_client_welcome(struct pgqrs_buf *out, const struct pgqrs_client_welcome *m)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_CLIENT_WELCOME);
    pgqrs_buf_put_u16(out, m->major);
    pgqrs_buf_put_u16(out, m->minor);
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->version));
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->backend));
    pgqrs_msg_end(out, start);
}

int pgqrs_decode_client_welcome(const struct pgqrs_frame *f, struct pgqrs_client_welcome *m,
                                struct pgqrs_error *err)
{
    struct pgqrs_reader r = pgqrs_reader_of(f->body, f->len);
    m->major = pgqrs_read_u16(&r);
    m->minor = pgqrs_read_u16(&r);
    m->version = pgqrs_read_text(&r, VERSION_MAX);
    m->backend = pgqrs_read_text(&r, VERSION_MAX);
    return pgqrs_reader_done(&r) ? 0 : malformed(f, err);
}

/* ---- operations ---- */

static bool is_op(enum pgqrs_store_op op)
{
    return op > PGQRS_STORE_OP_NONE && op < PGQRS_STORE_OP_COUNT;
}

const char *pgqrs_store_op_name(enum pgqrs_store_op op)
{
    return is_op(op) ? pgqrs_store_op_descs[op].name : "no operation";
}

bool pgqrs_store_op_changes(enum pgqrs_store_op op)
{
    return is_op(op) && pgqrs_store_op_descs[op].changes;
}

static struct pgqrs_wire writer_of(struct pgqrs_buf *out, size_t start)
{
    return (struct pgqrs_wire){.out = out, .limit = start + PGQRS_FRAME_HEADER + PGQRS_BODY_MAX};
}

/* Ends the frame, or takes back what there is of it. */
static int end_writing(struct pgqrs_wire *w, size_t start, enum pgqrs_store_op op,
                       struct pgqrs_error *err)
{
    if (!w->failed && !w->out->failed && w->out->len > w->limit) {
        pgqrs_wire_fail(w, "found more than %u bytes in one message", PGQRS_BODY_MAX);
    }
    if (!w->failed && !w->out->failed) {
        pgqrs_msg_end(w->out, start);
        return 0;
    }
    bool memory = w->out->failed;
    w->out->len = start;
    w->out->failed = false;
    if (memory) {
        return pgqrs_error_memory(err);
    }
    return pgqrs_error_set(err, PGQRS_ERR_INVALID, "%s through a broker: %s",
                           pgqrs_store_op_name(op), w->why);
}

static enum pgqrs_store_op wire_op(struct pgqrs_wire *w, enum pgqrs_store_op op)
{
    op = pgqrs_wire_enum(w, op, PGQRS_STORE_OP_COUNT);
    if (!is_op(op)) {
        pgqrs_wire_fail(w, "found no operation");
    }
    return op;
}

int pgqrs_encode_store_call(struct pgqrs_buf *out, const struct pgqrs_store_call *m,
                            struct pgqrs_error *err)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_STORE_CALL);
    struct pgqrs_wire w = writer_of(out, start);
    struct pgqrs_store_call copy = *m; /* writing gives back the same values */
    (void)pgqrs_wire_u64(&w, copy.number);
    if (is_op(wire_op(&w, copy.op))) {
        pgqrs_store_op_descs[copy.op].call(&w, &copy);
    }
    return end_writing(&w, start, m->op, err);
}

static void wire_error(struct pgqrs_wire *w, struct pgqrs_error *err)
{
    int sys_errno = pgqrs_wire_i32(w, err->sys_errno);
    const char *text = pgqrs_wire_text(w, err->text);
    if (pgqrs_wire_reads(w)) {
        (void)pgqrs_error_set(err, err->code, "%s", text); /* -1, as always */
        err->sys_errno = sys_errno;
    }
}

static void wire_reply(struct pgqrs_wire *w, struct pgqrs_store_reply *m)
{
    m->number = pgqrs_wire_u64(w, m->number);
    m->op = wire_op(w, m->op);
    enum pgqrs_err code = m->rc < 0 ? m->err.code : PGQRS_ERR_NONE;
    m->err.code = pgqrs_wire_enum(w, code, PGQRS_ERR_COUNT);
    if (!is_op(m->op)) {
        return;
    }
    if (m->err.code != PGQRS_ERR_NONE) {
        wire_error(w, &m->err);
        m->rc = -1;
        return;
    }
    m->rc = pgqrs_wire_i64(w, m->rc);
    if (m->rc < 0) {
        pgqrs_wire_fail(w, "found a failure without an error");
    } else {
        pgqrs_store_op_descs[m->op].reply(w, m);
    }
}

int pgqrs_encode_store_reply(struct pgqrs_buf *out, const struct pgqrs_store_reply *m,
                             struct pgqrs_error *err)
{
    size_t start = pgqrs_msg_begin(out, PGQRS_MSG_STORE_REPLY);
    struct pgqrs_wire w = writer_of(out, start);
    struct pgqrs_store_reply copy = *m;
    wire_reply(&w, &copy);
    return end_writing(&w, start, m->op, err);
}

int pgqrs_decode_store_call(const struct pgqrs_frame *f, struct pgqrs_store_call *m,
                            struct pgqrs_error *err)
{
    memset(m, 0, sizeof *m); /* all of the union */
    struct pgqrs_wire w = {.in = pgqrs_reader_of(f->body, f->len), .blocks = &m->blocks};
    m->number = pgqrs_wire_u64(&w, 0);
    m->op = wire_op(&w, PGQRS_STORE_OP_NONE);
    if (is_op(m->op)) {
        pgqrs_store_op_descs[m->op].call(&w, m);
    }
    if (w.failed || !pgqrs_reader_done(&w.in)) {
        pgqrs_store_call_fini(m);
        return malformed(f, err);
    }
    return 0;
}

void pgqrs_store_call_fini(struct pgqrs_store_call *m)
{
    pgqrs_wire_blocks_fini(&m->blocks);
    *m = (struct pgqrs_store_call){0};
}

int pgqrs_decode_store_reply(const struct pgqrs_frame *f, struct pgqrs_store_reply *m,
                             struct pgqrs_error *err)
{
    memset(m, 0, sizeof *m);
    struct pgqrs_wire w = {.in = pgqrs_reader_of(f->body, f->len), .blocks = &m->blocks};
    wire_reply(&w, m);
    if (w.failed || !pgqrs_reader_done(&w.in)) {
        pgqrs_store_reply_fini(m);
        return malformed(f, err);
    }
    return 0;
}

void pgqrs_store_reply_fini(struct pgqrs_store_reply *m)
{
    if (is_op(m->op) && m->rc >= 0 && pgqrs_store_op_descs[m->op].reply_fini != NULL) {
        pgqrs_store_op_descs[m->op].reply_fini(m);
    }
    pgqrs_wire_blocks_fini(&m->blocks);
    *m = (struct pgqrs_store_reply){0};
}
