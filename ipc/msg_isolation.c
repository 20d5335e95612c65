/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>

#include "ipc/msg_codec.h"

#define NICE_MAX 19

void pgqrs_put_isolation(struct pgqrs_buf *out, const struct pgqrs_isolation *m)
{
    pgqrs_buf_put_u32(out, m->uid);
    pgqrs_buf_put_u32(out, m->gid);
    pgqrs_buf_put_bytes(out, pgqrs_bytes_from(m->directory == NULL ? "" : m->directory));
    pgqrs_buf_put_u32(out, m->nice);
    pgqrs_buf_put_u64(out, (uint64_t)m->open_files);
    pgqrs_buf_put_u64(out, (uint64_t)m->processes);
    pgqrs_buf_put_u64(out, (uint64_t)m->file_size);
    pgqrs_buf_put_u64(out, (uint64_t)m->memory);
    pgqrs_buf_put_u64(out, (uint64_t)m->core);
    pgqrs_buf_put_u8(out, m->limit_core);
    pgqrs_buf_put_u8(out, m->no_new_privileges);
    pgqrs_buf_put_u8(out, m->seccomp);
}

void pgqrs_read_isolation(struct pgqrs_reader *r, struct pgqrs_isolation *m)
{
    m->uid = pgqrs_read_u32(r);
    m->gid = pgqrs_read_u32(r);
    m->directory = pgqrs_read_text(r, PATH_MAX);
    m->nice = pgqrs_read_u32(r);
    m->open_files = read_natural(r);
    m->processes = read_natural(r);
    m->file_size = read_natural(r);
    m->memory = read_natural(r);
    m->core = read_natural(r);
    m->limit_core = read_flag(r);
    m->no_new_privileges = read_flag(r);
    m->seccomp = read_flag(r);
    r->failed = r->failed || m->nice > NICE_MAX;
}
