/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SHA-256 of a file. Payload {"path": "/some/file"}; result {"sha256": "...", "bytes": N}.
 *
 * What may pass (an I/O error) is tried again; what will not (no such file) fails for good; a large
 * file stops between two blocks when the worker is shut down, and is read again by another.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/evp.h>

#include <pgqrs/handler.h>

#define BLOCK (256 * 1024)

struct state { /* what every job needs, made once */
    EVP_MD_CTX *digest;
    unsigned char *block;
};

static enum pgqrs_outcome can_not(struct pgqrs_job *job, const char *what, const char *path,
                                  int code)
{
    bool for_good = code == ENOENT || code == ENOTDIR || code == EACCES || code == EPERM ||
                    code == EISDIR || code == ELOOP || code == ENAMETOOLONG;
    const char *why = strerror(code);
    return for_good ? pgqrs_fail(job, "can not %s \"%s\": %s", what, path, why)
                    : pgqrs_retry(job, -1, "can not %s \"%s\": %s", what, path, why);
}

static enum pgqrs_outcome finish(const struct state *state, struct pgqrs_job *job, long long bytes)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    char result[sizeof hex + 64];
    unsigned len = 0;
    if (EVP_DigestFinal_ex(state->digest, sum, &len) != 1) {
        return pgqrs_retry(job, -1, "OpenSSL can not finish the digest");
    }
    for (unsigned i = 0; i < len; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    }
    int n = snprintf(result, sizeof result, "{\"sha256\": \"%s\", \"bytes\": %lld}", hex, bytes);
    if (job->host->set_result(job, result, (size_t)n) < 0) {
        return pgqrs_retry(job, -1, "the result was not accepted");
    }
    return PGQRS_DONE;
}

static enum pgqrs_outcome digest(const struct state *state, struct pgqrs_job *job, const char *path,
                                 int fd)
{
    long long bytes = 0;
    if (EVP_DigestInit_ex(state->digest, EVP_sha256(), NULL) != 1) {
        return pgqrs_retry(job, -1, "OpenSSL can not begin a digest");
    }
    for (;;) {
        if (pgqrs_cancelled(job)) {
            return PGQRS_CANCELLED;
        }
        ssize_t n = read(fd, state->block, BLOCK);
        if (n == 0) {
            return finish(state, job, bytes);
        }
        if (n < 0 && errno != EINTR) {
            return can_not(job, "read", path, errno);
        }
        if (n > 0) {
            if (EVP_DigestUpdate(state->digest, state->block, (size_t)n) != 1) {
                return pgqrs_retry(job, -1, "OpenSSL can not go on with the digest");
            }
            bytes += n;
        }
    }
}

static enum pgqrs_outcome open_and_digest(const struct state *state, struct pgqrs_job *job,
                                          const char *path)
{
    struct stat about;
    /* Without O_NONBLOCK, opening a named pipe would wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return can_not(job, "open", path, errno);
    }
    enum pgqrs_outcome outcome;
    if (fstat(fd, &about) < 0) {
        outcome = can_not(job, "look at", path, errno);
    } else if (!S_ISREG(about.st_mode)) {
        outcome = pgqrs_fail(job, "\"%s\" is not a regular file", path);
    } else {
        outcome = digest(state, job, path, fd);
    }
    (void)close(fd);
    return outcome;
}

static enum pgqrs_outcome run(void *state, struct pgqrs_job *job)
{
    json_t *payload = json_loadb(job->payload, job->payload_len, 0, NULL);
    const char *path = json_string_value(json_object_get(payload, "path")); /* null is accepted */
    enum pgqrs_outcome outcome =
        path == NULL
            ? pgqrs_fail(job, "payload: found %.200s, expected {\"path\": \"...\"}", job->payload)
            : open_and_digest(state, job, path);
    json_decref(payload);
    return outcome;
}

static void fini(void *opaque)
{
    struct state *state = opaque;
    EVP_MD_CTX_free(state->digest);
    free(state->block);
    free(state);
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    struct state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return -1;
    }
    state->digest = EVP_MD_CTX_new();
    state->block = malloc(BLOCK);
    if (state->digest == NULL || state->block == NULL) {
        (void)snprintf(setup->error, setup->error_size, "out of memory");
        fini(state);
        return -1;
    }
    *state_out = state;
    return 0;
}

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "checksum",
    .version = "1.0",
    .init = init,
    .run = run,
    .fini = fini,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
