/* SPDX-License-Identifier: Apache-2.0 */
/* The store that is under load. */
#include "tests/chaos/chaos_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/handlers/flat_json.h"
#include "tests/support/pg_rig.h"

#define DISK_MIB 48 /* and as much again for each minute */

/* In a mount namespace of our own, so that it goes with us. */
static bool mount_small_disk(struct chaos_run_state *c)
{
    static bool apart;
    char options[32];
    (void)snprintf(c->disk, sizeof c->disk, "%s/disk", c->scratch.dir);
    (void)snprintf(options, sizeof options, "size=%lldm",
                   (long long)(DISK_MIB + DISK_MIB * c->options.duration_ms / 60000));
    if (!apart) {
        apart =
            unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    }
    if (apart && mkdir(c->disk, 0700) == 0 && mount("tmpfs", c->disk, "tmpfs", 0, options) == 0) {
        return true;
    }
    (void)printf("chaos: no small disk can be mounted (%s): it is never full\n", strerror(errno));
    c->disk[0] = 0;
    return false;
}

static void open_sqlite(struct chaos_run_state *c)
{
    struct scratch *s = &c->scratch;
    if (mount_small_disk(c)) {
        (void)snprintf(s->db, sizeof s->db, "%s/queue.db", c->disk);
    }
    (void)snprintf(s->dsn, sizeof s->dsn, "sqlite:%s", s->db);
    (void)snprintf(c->dsn, sizeof c->dsn, "%s", s->dsn);
}

static void open_postgres(struct chaos_run_state *c)
{
    c->rig = pg_rig_create();
    (void)snprintf(c->scratch.dsn, sizeof c->scratch.dsn, "%s", c->rig->dsn);
    (void)snprintf(c->dsn, sizeof c->dsn, "%s", c->rig->dsn);
}

const char *chaos_schema(const struct chaos_run_state *c)
{
    return c->rig != NULL ? c->rig->schema : "";
}

struct pgqrs_client *chaos_connect(const struct chaos_run_state *c, struct pgqrs_failure *why)
{
    struct pgqrs_client *client = NULL;
    const struct pgqrs_options options = {
        .create = true, .busy_ms = 500, .schema = c->rig != NULL ? c->rig->schema : NULL};
    return pgqrs_connect(c->dsn, &options, &client, why) < 0 ? NULL : client;
}

bool chaos_target_open(struct chaos_run_state *c)
{
    struct pgqrs_failure why = {0};
    if (c->options.postgres) {
        open_postgres(c);
    } else {
        open_sqlite(c);
    }
    struct pgqrs_client *client = chaos_connect(c, &why);
    bool good = client != NULL && pgqrs_install(client, &why) == 0 &&
                pgqrs_queue_create(client, "work", NULL, &why) == 0 &&
                pgqrs_queue_create(client, "follow", NULL, &why) == 0;
    if (!good) {
        chaos_find(&c->findings, "the store can not be made: %s", why.text);
    }
    pgqrs_disconnect(&client);
    return good;
}

void chaos_target_close(struct chaos_run_state *c)
{
    if (c->rig != NULL) {
        pg_rig_destroy(c->rig);
    }
    if (c->disk[0] != 0) {
        (void)umount2(c->disk, MNT_DETACH); /* else it goes with this process */
    }
}

int64_t chaos_open_jobs(struct chaos_run_state *c)
{
    struct pgqrs_failure why;
    struct pgqrs_counts counts = {0};
    struct pgqrs_client *client = chaos_connect(c, &why);
    bool got = client != NULL && pgqrs_queue_metrics(client, NULL, 0, &counts, &why) == 0;
    pgqrs_disconnect(&client);
    return got ? counts.total - counts.archived : -1;
}

int64_t chaos_leased_job(struct chaos_run_state *c, uint64_t which)
{
    struct pgqrs_failure why;
    struct pgqrs_message_page *page = NULL;
    const struct pgqrs_message_query query = {
        .queue = "work", .status = PGQRS_MESSAGE_LEASED, .limit = 100};
    struct pgqrs_client *client = chaos_connect(c, &why);
    int64_t id = 0;
    if (client != NULL && pgqrs_message_list(client, &query, &page, &why) == 0 && page->count > 0) {
        id = page->items[which % page->count].id;
    }
    pgqrs_message_page_free(page);
    pgqrs_disconnect(&client);
    return id;
}

void chaos_take_lease(struct chaos_run_state *c, int64_t id)
{
    struct pgqrs_failure why;
    struct pgqrs_client *client = chaos_connect(c, &why);
    if (client != NULL) {
        (void)!pgqrs_message_act(client, PGQRS_ACTION_FREE, &id, 1, NULL, &why); /* or it ended */
    }
    pgqrs_disconnect(&client);
}

static void write_row(FILE *file, const struct pgqrs_message_entry *m)
{
    bool dead = flat_number(m->payload, "dead", 0) != 0;
    bool ended = m->status == PGQRS_MESSAGE_ARCHIVED;
    (void)fprintf(file, "row %" PRId64 " %lld %lld %s %lld %s %u %lld %u\n", m->id,
                  flat_number(m->payload, "n", 0), flat_number(m->payload, "from", 0),
                  dead ? "failed" : "done", flat_number(m->payload, "then", 0),
                  !ended               ? "open"
                  : m->outcome != NULL ? m->outcome
                                       : "nobody",
                  m->attempts, m->result == NULL ? 0 : flat_number(m->result, "attempt", 0),
                  m->crashes);
}

void chaos_write_rows(struct chaos_run_state *c)
{
    char path[96];
    struct pgqrs_failure why = {0};
    struct pgqrs_message_query query = {.limit = 1000};
    struct pgqrs_client *client = chaos_connect(c, &why);
    (void)snprintf(path, sizeof path, "%s/rows", c->scratch.dir);
    FILE *file = fopen(path, "w");
    bool more = client != NULL && file != NULL;
    bool good = more;
    while (more) {
        struct pgqrs_message_page *page = NULL;
        good = pgqrs_message_list(client, &query, &page, &why) == 0;
        for (size_t i = 0; good && i < page->count; i++) {
            write_row(file, &page->items[i]);
        }
        query.next = good ? page->next : 0;
        more = query.next != 0;
        pgqrs_message_page_free(page);
    }
    if (!good) {
        chaos_find(&c->findings, "the store can not be read: %s", why.text);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    pgqrs_disconnect(&client);
}
