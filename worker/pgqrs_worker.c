/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pgqrs-worker: loads one handler plugin and runs the jobs of one queue. Started by pgqrsd. It
 * never knows where the jobs are stored: they come from the broker, over a socket.
 */
#include "worker/worker.h"
#include "worker/workflow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "ipc/check.h"
#include "worker/check.h"
#include "worker/isolation.h"

static int take_welcome(struct pgqrs_worker *worker, const struct pgqrs_frame *frame,
                        struct pgqrs_error *err)
{
    struct pgqrs_worker_welcome welcome;
    if (pgqrs_decode_worker_welcome(frame, &welcome, err) < 0) {
        return -1;
    }
    worker->queue = strdup(welcome.queue);
    worker->plugin_path = strdup(welcome.handler);
    worker->settings = strdup(welcome.settings);
    worker->job_socket = strdup(welcome.job_socket);
    memcpy(worker->token, welcome.token, sizeof worker->token);
    worker->slot = welcome.slot;
    worker->prefetch = welcome.prefetch;
    worker->log_lines = welcome.log_lines;
    worker->once = welcome.once != 0;
    worker->max_attempts = welcome.max_attempts;
    worker->heartbeat_ms = welcome.heartbeat_ms < 1 ? 1 : welcome.heartbeat_ms;
    worker->timeout_ms = welcome.timeout_ms;
    worker->cancel_grace_ms = welcome.cancel_grace_ms;
    worker->directory = strdup(welcome.isolation.directory);
    worker->isolation = welcome.isolation;
    worker->isolation.directory = worker->directory;
    if (worker->queue == NULL || worker->plugin_path == NULL || worker->settings == NULL ||
        worker->job_socket == NULL || worker->directory == NULL) {
        (void)pgqrs_error_memory(err);
        return -1;
    }
    return pgqrs_isolation_keep_socket(&worker->isolation, &worker->job_socket, err);
}

static int set_up(struct pgqrs_worker *worker, struct pgqrs_error *err)
{
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->wake_fd < 0) {
        return pgqrs_error_sys(err, PGQRS_ERR_FAILED, errno, "eventfd");
    }
    const struct pgqrs_job_link_setup link = {
        .socket_path = worker->job_socket,
        .generation = worker->child.generation,
        .token = worker->token,
        .prefetch = worker->prefetch,
        .wake_fd = worker->wake_fd,
    };
    if (pgqrs_host_create(worker->queue, worker->max_attempts, &worker->host, err) < 0 ||
        pgqrs_job_link_create(&link, &worker->link, err) < 0) {
        return -1;
    }
    pgqrs_host_set_limit(worker->host, worker->timeout_ms, worker->cancel_grace_ms,
                         worker->wake_fd);
    if (pgqrs_output_start(worker->output, worker->queue, worker->slot, worker->log_lines, err) <
        0) {
        return -1;
    }
    return pgqrs_control_thread_start(worker, err);
}

static void tear_down(struct pgqrs_worker *worker)
{
    pgqrs_control_thread_stop(worker);
    pgqrs_job_link_destroy(&worker->link);
    pgqrs_host_destroy(&worker->host);
    if (worker->wake_fd >= 0) {
        (void)close(worker->wake_fd);
    }
    free(worker->queue);
    free(worker->plugin_path);
    free(worker->settings);
    free(worker->job_socket);
    free(worker->directory);
    /* pgqrsd may tell one that is ending anyway to stop, and NNG's close may wait for ever while a
     * message is on its way in: the kernel closes for it. */
    static struct pgqrs_control *volatile left_open; /* known to whoever looks for leaks */
    left_open = worker->once ? worker->child.control : NULL;
    if (left_open == NULL) {
        pgqrs_child_end(&worker->child);
    }
}

/* The process' exit status; -1: err says why it is PGQRS_EXIT_FAILURE. */
static int serve(struct pgqrs_worker *worker, struct pgqrs_error *err)
{
    if (pgqrs_isolation_apply(&worker->isolation, worker->child.lifeline, err) < 0) {
        pgqrs_child_last_words(&worker->child, err->text);
        return PGQRS_EXIT_CONFIG;
    }
    if (pgqrs_plugin_load(worker->plugin_path, &worker->plugin, err) < 0) {
        pgqrs_child_last_words(&worker->child, err->text);
        return PGQRS_EXIT_BAD_PLUGIN;
    }
    if (strcmp(worker->plugin_path, PGQRS_FD_PLUGIN_PATH) == 0) {
        (void)close(PGQRS_FD_PLUGIN); /* it is mapped */
    }
    if (pgqrs_workflow_open(worker->host, worker->link, worker->plugin.handler.flags, err) < 0) {
        return -1;
    }
    if (pgqrs_plugin_init(&worker->plugin, worker->queue, worker->settings, &pgqrs_host_functions,
                          err) < 0) {
        return -1;
    }
    pgqrs_output_end(worker->output); /* what init has written is of no job */
    int status = pgqrs_worker_loop(worker, err);
    pgqrs_plugin_fini(&worker->plugin);
    pgqrs_output_end(worker->output);
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], PGQRS_CHECK_WORD) == 0) {
        return pgqrs_worker_check();
    }
    struct pgqrs_worker worker = {.wake_fd = -1, .child.lifeline = -1};
    struct pgqrs_frame welcome;
    struct pgqrs_error err;
    int status = -1;
    if (pgqrs_isolation_begin(&err) == 0 && pgqrs_output_open(&worker.output, &err) == 0 &&
        pgqrs_child_start("pgqrs-worker", PGQRS_ROLE_WORKER, &worker.child, &welcome, &err) == 0 &&
        take_welcome(&worker, &welcome, &err) == 0 && set_up(&worker, &err) == 0) {
        status = serve(&worker, &err);
    }
    if (status < 0) {
        pgqrs_child_last_words(&worker.child, err.text);
        status = worker.child.lifeline < 0 ? PGQRS_EXIT_USAGE : PGQRS_EXIT_FAILURE;
    }
    tear_down(&worker);
    return status;
}
