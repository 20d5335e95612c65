/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_WORKER_JOB_LINK_PRIV_H
#define PGQRS_WORKER_JOB_LINK_PRIV_H

/*
 * Shared by the two halves of a link: job_link.c decides which thread does what and when to wait,
 * job_wire.c moves bytes. The functions here are called with the mutex held and never block.
 */

#include <pthread.h>
#include <stdbool.h>
#include <sys/un.h>

#include "worker/job_link.h"

struct pgqrs_job_link {
    /* Set at creation. */
    struct sockaddr_un address;
    uint64_t generation;
    uint8_t token[PGQRS_TOKEN_SIZE];
    uint32_t prefetch;
    bool workflow;
    int wake_fd;  /* borrowed */
    int drain_fd; /* an eventfd, readable from the moment a drain begins */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    struct pgqrs_held_jobs held;
    int fd; /* -1: not connected */
    struct pgqrs_buf in, out;
    int64_t connect_at_ms; /* not before; monotonic */
    int64_t pause_ms;      /* before the next try */
    uint64_t sent;
    struct pgqrs_buf answer; /* the body of the last JOB_FLOWED */
    uint32_t answered;       /* its seq; 0: none */
    bool welcomed;           /* on this connection */
    bool was_welcomed;       /* ever */
    bool outage_told;        /* this outage is in the log */
    bool draining;
    bool main_polls; /* the main thread is in poll() on fd: nobody else may close it */
    bool refused;    /* for good; refusal says why */
    struct pgqrs_error refusal;
};

/* Connects when it is time to; says hello and sends again what is not settled. */
void pgqrs_job_wire_connect(struct pgqrs_job_link *link);
/* Sends the outcome as far as the socket takes it; the rest waits in out. */
void pgqrs_job_wire_send(struct pgqrs_job_link *link, const struct pgqrs_unsettled *outcome);
void pgqrs_job_wire_flush(struct pgqrs_job_link *link);
/* Reads what is there and acts on it. True when there was something, the end included. */
bool pgqrs_job_wire_receive(struct pgqrs_job_link *link);
/* Every job that waits becomes an outcome RETURNED, and is sent. */
void pgqrs_job_wire_give_back(struct pgqrs_job_link *link);
/* Asks for no more jobs. */
void pgqrs_job_wire_refuse_more(struct pgqrs_job_link *link);

#endif
