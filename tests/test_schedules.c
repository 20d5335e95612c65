/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/schedule_plan.h"

#include <pthread.h>
#include <stdlib.h>

#include "tests/support/pg_rig.h"
#include "tests/support/remote_rig.h"
#include "tests/support/sqlite_rig.h"

/* Schedules on a real store of each kind, with a clock that the cases move. */

#define SECOND_US INT64_C(1000000)
#define HOUR_US (3600 * SECOND_US)
#define START_US SUITE_START_US                /* 2026-01-01 00:00:00 UTC */
#define END_US (START_US + 365 * 24 * HOUR_US) /* 2027-01-01 00:00:00 UTC */

struct world {
    struct pg_rig *pg; /* null: SQLite */
    struct sqlite_rig *sqlite;
    struct pgqrs_store *stores[2]; /* two brokers' */
    struct pgqrs_store *client;    /* the first of them, or one through a broker */
    struct remote_rig remote;
    struct pgqrs_error err;
};

static void set_clock(struct world *w, int64_t wall_us)
{
    if (w->pg != NULL) {
        pg_rig_set_clock(w->pg, wall_us);
    }
    pgqrs_clock_set_wall(wall_us);
}

static int64_t number(struct world *w, const char *sql)
{
    if (w->pg != NULL) {
        return pg_rig_number(w->pg, "%s", sql);
    }
    sqlite3 *db = sqlite_rig_raw(w->sqlite);
    int64_t n = sqlite_rig_number(db, sql);
    (void)sqlite3_close(db);
    return n;
}

static struct world *world_create(void)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    return w;
}

static int setup_sqlite(void **state)
{
    struct world *w = world_create();
    int rc = sqlite_rig_setup((void **)&w->sqlite);
    const struct pgqrs_store_options options = {.create = true, .busy_ms = 5000};
    char dsn[PATH_MAX + 16];
    (void)snprintf(dsn, sizeof dsn, "sqlite:%s", w->sqlite->path);
    for (int i = 0; i < 2; i++) {
        suite_ok(w, pgqrs_store_open(dsn, &options, &w->stores[i], &w->err));
        suite_ok(w, pgqrs_store_install(w->stores[i], &w->err));
    }
    w->client = w->stores[0];
    *state = w;
    set_clock(w, START_US);
    return rc;
}

/* The clients' calls go through a socket. */
static int setup_remote(void **state)
{
    const struct pgqrs_store_options options = {0};
    int rc = setup_sqlite(state);
    struct world *w = *state;
    w->remote.store = w->stores[1];
    remote_rig_start(&w->remote, remote_rig_serve_store, NULL);
    suite_ok(w, pgqrs_store_open(w->remote.dsn, &options, &w->client, &w->err));
    return rc;
}

static int setup_pg(void **state)
{
    struct world *w = world_create();
    w->pg = pg_rig_create();
    w->stores[0] = pg_rig_store(w->pg, NULL);
    w->stores[1] = pg_rig_store(w->pg, NULL);
    w->client = w->stores[0];
    *state = w;
    set_clock(w, START_US);
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    struct pgqrs_error err;
    int rc = pgqrs_store_verify(w->stores[0], &err);
    if (w->client != w->stores[0]) {
        pgqrs_store_close(&w->client);
        remote_rig_stop(&w->remote);
    }
    for (int i = 0; i < 2; i++) {
        pgqrs_store_close(&w->stores[i]);
    }
    if (w->pg != NULL) {
        pg_rig_destroy(w->pg);
    } else {
        rc = sqlite_rig_teardown((void **)&w->sqlite) < 0 ? -1 : rc;
    }
    pgqrs_clock_set_wall(0);
    free(w);
    return rc;
}

/* With a queue of its own, of the same name. */
static void create(struct world *w, struct pgqrs_schedule_put put)
{
    int64_t id = 0;
    put.queue = put.name;
    put.zone = put.zone == NULL ? "UTC" : put.zone;
    put.payload = pgqrs_bytes_from("{\"n\": 1}");
    suite_ok(w, pgqrs_store_queue_create(w->stores[0], put.queue, &id, &w->err));
    suite_ok(w, pgqrs_store_schedule_create(w->client, &put, &id, &w->err));
    assert_true(id > 0);
}

/* Returns what was enqueued. */
static size_t look_at(struct world *w, int64_t now_us, int64_t *next_us_out)
{
    struct pgqrs_schedule_look look = {.now_us = now_us};
    suite_ok(w, pgqrs_schedules_look(w->stores[0], &look, &w->err));
    assert_string_equal(look.trouble.text, "");
    if (next_us_out != NULL) {
        *next_us_out = look.next_us;
    }
    return look.messages;
}

static struct pgqrs_schedule_list find(struct world *w, const char *name)
{
    struct pgqrs_schedule_list one;
    suite_ok(w, pgqrs_store_schedule_find(w->client, name, &one, &w->err));
    assert_int_equal(one.count, 1);
    return one;
}

/* ---- the rows ---- */

static void test_create_list_delete(void **state)
{
    struct world *w = *state;
    struct pgqrs_schedule_list list;
    int64_t id = 0;
    create(w, (struct pgqrs_schedule_put){.name = "b", .cron = "0 * * * *", .priority = 7});
    create(w, (struct pgqrs_schedule_put){.name = "a",
                                          .cron = "@daily",
                                          .zone = "Asia/Tokyo",
                                          .catch_up = PGQRS_CATCH_UP_ALL,
                                          .overlap = PGQRS_OVERLAP_SKIP});
    struct pgqrs_schedule_put put = {
        .name = "a", .queue = "b", .cron = "x", .zone = "UTC", .payload = pgqrs_bytes_from("1")};
    assert_int_equal(pgqrs_store_schedule_create(w->client, &put, &id, &w->err), -1);
    assert_int_equal(w->err.code, PGQRS_ERR_EXISTS);
    put.name = "c";
    put.queue = "nowhere";
    assert_int_equal(pgqrs_store_schedule_create(w->client, &put, &id, &w->err), -1);
    assert_int_equal(w->err.code, PGQRS_ERR_NOT_FOUND);

    suite_ok(w, pgqrs_store_schedule_list(w->client, NULL, 10, &list, &w->err));
    assert_int_equal(list.count, 2);
    assert_int_equal(list.now_us, START_US);
    assert_string_equal(list.items[0].name, "a");
    assert_string_equal(list.items[0].queue, "a");
    assert_string_equal(list.items[0].cron, "@daily");
    assert_string_equal(list.items[0].zone, "Asia/Tokyo");
    assert_int_equal(list.items[0].catch_up, PGQRS_CATCH_UP_ALL);
    assert_int_equal(list.items[0].overlap, PGQRS_OVERLAP_SKIP);
    assert_int_equal(list.items[0].created_at_us, START_US);
    assert_int_equal(list.items[0].next_at_us, START_US);
    assert_false(list.items[0].planned);
    assert_null(list.items[0].config);
    assert_int_equal(list.items[1].priority, 7);
    assert_string_equal(list.items[1].payload, "{\"n\": 1}");
    pgqrs_schedule_list_fini(&list);
    suite_ok(w, pgqrs_store_schedule_list(w->client, "a", 10, &list, &w->err));
    assert_int_equal(list.count, 1);
    pgqrs_schedule_list_fini(&list);

    suite_ok(w, pgqrs_store_queue_find(w->stores[0], "a", &id, &w->err));
    assert_int_equal(pgqrs_store_queue_delete(w->stores[0], id, &w->err), -1);
    assert_int_equal(w->err.code, PGQRS_ERR_CONFLICT);
    assert_non_null(strstr(w->err.text, "a schedule"));
    assert_int_equal(look_at(w, START_US + 24 * HOUR_US, NULL), 2); /* rows of ticks go, too */
    suite_ok(w, pgqrs_store_schedule_delete(w->client, "a", &w->err));
    assert_int_equal(pgqrs_store_schedule_delete(w->client, "a", &w->err), -1);
    assert_int_equal(w->err.code, PGQRS_ERR_NOT_FOUND);
    assert_int_equal(number(w, "SELECT count(*) FROM pgqrsd_schedules"), 1);
    assert_int_equal(pgqrs_store_schedule_find(w->client, "a", &list, &w->err), -1);
    assert_int_equal(w->err.code, PGQRS_ERR_NOT_FOUND);
}

static int64_t configure(struct world *w, const char *config, const struct pgqrs_schedule_put *puts,
                         size_t count)
{
    int64_t changed = pgqrs_store_schedule_configure(w->stores[0], config, puts, count, &w->err);
    suite_ok(w, changed);
    return changed;
}

static void test_configure(void **state)
{
    struct world *w = *state;
    int64_t id;
    create(w, (struct pgqrs_schedule_put){.name = "q", .cron = "0 0 * * *"});
    struct pgqrs_schedule_put puts[2] = {
        {.name = "x",
         .queue = "q",
         .cron = "0 * * * *",
         .zone = "UTC",
         .payload = pgqrs_bytes_from("{\"a\": 1}")},
        {.name = "y",
         .queue = "q",
         .cron = "0 * * * *",
         .zone = "UTC",
         .payload = pgqrs_bytes_from("{\"a\": 1}"),
         .pause = PGQRS_SCHEDULE_PAUSE},
    };
    assert_int_equal(configure(w, "one", puts, 2), 2);
    assert_int_equal(configure(w, "one", puts, 2), 0);
    assert_int_equal(look_at(w, START_US + 1, NULL), 0);
    struct pgqrs_schedule_list one = find(w, "x");
    assert_true(one.items[0].planned);
    assert_string_equal(one.items[0].config, "one");
    pgqrs_schedule_list_fini(&one);
    one = find(w, "y");
    assert_int_equal(one.items[0].paused_at_us, START_US);
    pgqrs_schedule_list_fini(&one);

    /* A new payload does not forget what was missed, a new expression does. */
    set_clock(w, START_US + 2 * HOUR_US + 1);
    puts[0].payload = pgqrs_bytes_from("{\"a\": 2}");
    puts[1].pause = PGQRS_SCHEDULE_RESUME;
    assert_int_equal(configure(w, "one", puts, 2), 2);
    one = find(w, "x");
    assert_int_equal(one.items[0].next_at_us, START_US + HOUR_US);
    assert_true(one.items[0].planned);
    pgqrs_schedule_list_fini(&one);
    one = find(w, "y");
    assert_int_equal(one.items[0].paused_at_us, 0);
    assert_int_equal(one.items[0].next_at_us, START_US + 2 * HOUR_US + 1);
    assert_false(one.items[0].planned);
    pgqrs_schedule_list_fini(&one);
    puts[0].cron = "30 * * * *";
    assert_int_equal(configure(w, "one", puts, 2), 1);
    one = find(w, "x");
    assert_int_equal(one.items[0].next_at_us, START_US + 2 * HOUR_US + 1);
    assert_false(one.items[0].planned);
    pgqrs_schedule_list_fini(&one);

    /* One of a configuration goes with it; others' stay; one that somebody made is taken over. */
    assert_int_equal(pgqrs_store_schedule_delete(w->client, "x", &w->err), -1);
    assert_int_equal(w->err.code, PGQRS_ERR_CONFLICT);
    assert_int_equal(configure(w, "two", NULL, 0), 0);
    puts[1].name = "q";
    assert_int_equal(configure(w, "one", puts, 2), 2);
    assert_int_equal(number(w, "SELECT count(*) FROM pgqrsd_schedules WHERE config = 'one'"), 2);
    assert_int_equal(number(w, "SELECT count(*) FROM pgqrsd_schedules"), 2);
    puts[1].queue = "nowhere";
    assert_int_equal(pgqrs_store_schedule_configure(w->stores[0], "one", puts, 2, &w->err), -1);
    assert_int_equal(w->err.code, PGQRS_ERR_NOT_FOUND);
    assert_int_equal(configure(w, "one", NULL, 0), 2);
    suite_ok(w, pgqrs_store_queue_find(w->stores[0], "q", &id, &w->err));
    suite_ok(w, pgqrs_store_queue_delete(w->stores[0], id, &w->err));
}

static void test_pause(void **state)
{
    struct world *w = *state;
    create(w, (struct pgqrs_schedule_put){
                  .name = "p", .cron = "0 * * * *", .catch_up = PGQRS_CATCH_UP_ALL});
    assert_int_equal(look_at(w, START_US + HOUR_US, NULL), 1);
    suite_ok(w, pgqrs_store_schedule_pause(w->client, "p", true, &w->err));
    assert_int_equal(look_at(w, START_US + 5 * HOUR_US, NULL), 0);
    /* One that was planned before the pause comes too late. */
    int64_t id = number(w, "SELECT id FROM pgqrsd_schedules");
    const int64_t tick = START_US + 2 * HOUR_US;
    struct pgqrs_fire fire = {.schedule_id = id,
                              .expected_us = tick,
                              .next_us = tick + HOUR_US,
                              .ticks = &tick,
                              .tick_count = 1};
    suite_ok(w, pgqrs_store_schedule_fire(w->stores[0], &fire, &w->err));
    assert_false(fire.fired_out);
    set_clock(w, START_US + 6 * HOUR_US + 1);
    suite_ok(w, pgqrs_store_schedule_pause(w->client, "p", false, &w->err));
    suite_ok(w, pgqrs_store_schedule_pause(w->client, "p", false, &w->err));
    assert_int_equal(look_at(w, START_US + 6 * HOUR_US + 2, NULL), 0);
    assert_int_equal(look_at(w, START_US + 7 * HOUR_US, NULL), 1);
    assert_int_equal(pgqrs_store_schedule_pause(w->client, "none", true, &w->err), -1);
    assert_int_equal(w->err.code, PGQRS_ERR_NOT_FOUND);
}

/* ---- a year, and two brokers that race for every tick ---- */

struct race {
    struct world *w;
    pthread_barrier_t begin, end;
    int64_t now_us, next_us[2];
    size_t fired[2];
    struct pgqrs_error err[2];
};

struct racer {
    struct race *race;
    int who;
};

static void *run_racer(void *arg)
{
    const struct racer *me = arg;
    struct race *r = me->race;
    for (;;) {
        pthread_barrier_wait(&r->begin);
        if (r->now_us == 0) {
            return NULL;
        }
        struct pgqrs_schedule_look look;
        int rc;
        do {
            look = (struct pgqrs_schedule_look){.now_us = r->now_us};
            rc = pgqrs_schedules_look(r->w->stores[me->who], &look, &r->err[me->who]);
        } while (rc < 0 && r->err[me->who].code == PGQRS_ERR_AGAIN);
        r->next_us[me->who] = rc < 0 ? -1 : look.next_us;
        r->fired[me->who] += look.fired;
        pthread_barrier_wait(&r->end);
    }
}

/* The clock goes from one tick to the next. */
static void race_to(struct race *r, int64_t until_us)
{
    pthread_t threads[2];
    struct racer racers[2] = {{r, 0}, {r, 1}};
    pthread_barrier_init(&r->begin, NULL, 3);
    pthread_barrier_init(&r->end, NULL, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_racer, &racers[i]), 0);
    }
    int64_t at_us = START_US;
    int64_t bad = 0;
    for (r->now_us = START_US; at_us <= until_us && bad == 0;) {
        r->now_us = at_us + SECOND_US / 2; /* nobody looks just in time */
        pthread_barrier_wait(&r->begin);
        pthread_barrier_wait(&r->end);
        bad = r->next_us[0] <= at_us || r->next_us[0] != r->next_us[1];
        at_us = r->next_us[0];
    }
    r->now_us = 0;
    pthread_barrier_wait(&r->begin);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    if (bad != 0) {
        fail_msg("next: %" PRId64 " and %" PRId64 ": %s %s", r->next_us[0], r->next_us[1],
                 r->err[0].text, r->err[1].text);
    }
    pthread_barrier_destroy(&r->begin);
    pthread_barrier_destroy(&r->end);
}

static int64_t messages_of(struct world *w, const char *name)
{
    char sql[200];
    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM pgqrs_messages m JOIN pgqrs_queues q"
                   " ON q.id = m.queue_id WHERE q.queue_name = '%s'",
                   name);
    return number(w, sql);
}

/* How many rows of ticks a schedule has at this time of UTC; null: at all. */
static int64_t ticks_at(struct world *w, const char *name, const char *at)
{
    char sql[300];
    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM pgqrsd_schedule_ticks t JOIN pgqrsd_schedules s"
                   " ON s.id = t.schedule_id WHERE s.name = '%s' AND message_id IS NOT NULL"
                   " AND tick_at %s '%s%s'",
                   name, at == NULL ? ">" : "=", at == NULL ? "2000-01-01 00:00:00" : at,
                   w->pg != NULL ? "+00"
                   : at == NULL  ? ""
                                 : ".000000");
    return number(w, sql);
}

static void test_year(void **state)
{
    struct world *w = *state;
    struct race race = {.w = w};
    const char *often = w->pg != NULL ? "0 */6 * * *" : "0 * * * *"; /* a commit costs more there */
    create(w, (struct pgqrs_schedule_put){.name = "ho_b", .cron = often, .zone = "Europe/Berlin"});
    create(w,
           (struct pgqrs_schedule_put){.name = "ho_n", .cron = often, .zone = "America/New_York"});
    create(w, (struct pgqrs_schedule_put){
                  .name = "da_b", .cron = "30 2 * * *", .zone = "Europe/Berlin"});
    create(w, (struct pgqrs_schedule_put){
                  .name = "da_n", .cron = "30 2 * * *", .zone = "America/New_York"});
    create(w, (struct pgqrs_schedule_put){
                  .name = "da_1", .cron = "30 1 * * *", .zone = "America/New_York"});
    race_to(&race, END_US);

    assert_int_equal(messages_of(w, "da_b"), 365);
    assert_int_equal(messages_of(w, "da_n"), 365);
    assert_int_equal(messages_of(w, "da_1"), 365);
    assert_int_equal(ticks_at(w, "da_b", NULL), 365);
    assert_int_equal(ticks_at(w, "da_b", "2026-03-28 01:30:00"), 1);
    assert_int_equal(ticks_at(w, "da_b", "2026-03-29 01:00:00"), 1); /* 02:30 is in the gap */
    assert_int_equal(ticks_at(w, "da_b", "2026-03-30 00:30:00"), 1);
    assert_int_equal(ticks_at(w, "da_b", "2026-10-25 00:30:00"), 1); /* the first of two */
    assert_int_equal(ticks_at(w, "da_b", "2026-10-25 01:30:00"), 0);
    assert_int_equal(ticks_at(w, "da_b", "2026-10-26 01:30:00"), 1);
    assert_int_equal(ticks_at(w, "da_n", "2026-03-07 07:30:00"), 1);
    assert_int_equal(ticks_at(w, "da_n", "2026-03-08 07:00:00"), 1);
    assert_int_equal(ticks_at(w, "da_n", "2026-03-09 06:30:00"), 1);
    assert_int_equal(ticks_at(w, "da_1", "2026-11-01 05:30:00"), 1);
    assert_int_equal(ticks_at(w, "da_1", "2026-11-01 06:30:00"), 0);
    if (w->pg == NULL) {
        assert_int_equal(messages_of(w, "ho_b"), 8760); /* real hours: 23 and 25 on two days */
        assert_int_equal(messages_of(w, "ho_n"), 8760);
        assert_int_equal(ticks_at(w, "ho_b", NULL), 1000); /* the rest were cleared away */
    } else { /* four a local day, the first and the last day not whole */
        assert_int_equal(messages_of(w, "ho_b"), 1460);
        assert_int_equal(messages_of(w, "ho_n"), 1460);
    }
    /* Every firing has one winner; five were the planning. */
    size_t ticks = 3 * 365 + (w->pg == NULL ? 2 * 8760 : 2 * 1460);
    assert_int_equal(race.fired[0] + race.fired[1], ticks + 5);
    assert_true(race.fired[0] > 0 && race.fired[1] > 0);
}

/* ---- catching up ---- */

static void catch_up(struct world *w, enum pgqrs_catch_up policy, size_t expected)
{
    create(w, (struct pgqrs_schedule_put){.name = "c", .cron = "0 * * * *", .catch_up = policy});
    int64_t next_us = 0;
    assert_int_equal(look_at(w, START_US, &next_us), 0);
    assert_int_equal(next_us, START_US + HOUR_US);
    assert_int_equal(look_at(w, next_us + 59 * SECOND_US, &next_us), 1); /* late, not missed */
    assert_int_equal(look_at(w, START_US + 10 * HOUR_US + HOUR_US / 2, &next_us), expected);
    assert_int_equal(next_us, START_US + 11 * HOUR_US);
    assert_int_equal(ticks_at(w, "c", "2026-01-01 10:00:00"), expected > 0);
    assert_int_equal(ticks_at(w, "c", "2026-01-01 09:00:00"), expected > 1);
    assert_int_equal(ticks_at(w, "c", "2026-01-01 02:00:00"), expected > 1);
    assert_int_equal(look_at(w, next_us, &next_us), 1);
}

static void test_catch_up_skip(void **state)
{
    catch_up(*state, PGQRS_CATCH_UP_SKIP, 0);
}

static void test_catch_up_once(void **state)
{
    catch_up(*state, PGQRS_CATCH_UP_ONCE, 1);
}

static void test_catch_up_all(void **state)
{
    catch_up(*state, PGQRS_CATCH_UP_ALL, 9);
}

/* Who is late by less than a minute was not away: nothing is lost, however often it is due. */
static void late(struct world *w, enum pgqrs_catch_up policy, size_t away)
{
    create(w, (struct pgqrs_schedule_put){.name = "l", .cron = "@every 10s", .catch_up = policy});
    int64_t next_us = 0;
    assert_int_equal(look_at(w, START_US, &next_us), 0);
    assert_int_equal(look_at(w, next_us + 35 * SECOND_US, &next_us), 4);
    assert_int_equal(look_at(w, next_us + 60 * SECOND_US, &next_us), 7);
    assert_int_equal(look_at(w, next_us + 61 * SECOND_US, &next_us), away);
}

static void test_late_skip(void **state)
{
    late(*state, PGQRS_CATCH_UP_SKIP, 1);
}

static void test_late_once(void **state)
{
    late(*state, PGQRS_CATCH_UP_ONCE, 1);
}

static void test_late_all(void **state)
{
    late(*state, PGQRS_CATCH_UP_ALL, 7);
}

/* A clock that is a year ahead for a moment: the last thousand, at once; then it goes back, and
 * nothing fires a second time, although the schedule is planned anew. */
static void test_clock_jumps(void **state)
{
    struct world *w = *state;
    create(w, (struct pgqrs_schedule_put){
                  .name = "j", .cron = "@every 10s", .catch_up = PGQRS_CATCH_UP_ALL});
    int64_t next_us = 0;
    assert_int_equal(look_at(w, START_US, &next_us), 0);
    assert_int_equal(look_at(w, next_us, &next_us), 1);
    assert_int_equal(look_at(w, END_US, &next_us), PGQRS_TICKS_MAX);
    assert_int_equal(next_us, END_US + 10 * SECOND_US);
    assert_int_equal(ticks_at(w, "j", NULL), PGQRS_TICKS_MAX);
    assert_int_equal(look_at(w, START_US + HOUR_US, NULL), 0);

    set_clock(w, END_US - 35 * SECOND_US);
    suite_ok(w, pgqrs_store_schedule_pause(w->client, "j", true, &w->err));
    suite_ok(w, pgqrs_store_schedule_pause(w->client, "j", false, &w->err));
    assert_int_equal(look_at(w, END_US - 35 * SECOND_US, &next_us), 0);
    assert_int_equal(next_us, END_US - 30 * SECOND_US);
    assert_int_equal(look_at(w, next_us, &next_us), 0);
    assert_int_equal(look_at(w, END_US, &next_us), 0);
    assert_int_equal(look_at(w, next_us, NULL), 1);
}

/* ---- overlap ---- */

static void test_overlap(void **state)
{
    struct world *w = *state;
    enum pgqrs_acted acted;
    create(w, (struct pgqrs_schedule_put){.name = "o",
                                          .cron = "0 * * * *",
                                          .catch_up = PGQRS_CATCH_UP_ALL,
                                          .overlap = PGQRS_OVERLAP_SKIP});
    assert_int_equal(look_at(w, START_US + HOUR_US, NULL), 1);
    assert_int_equal(look_at(w, START_US + 3 * HOUR_US, NULL), 0);
    assert_int_equal(number(w, "SELECT count(*) FROM pgqrsd_schedule_ticks"), 3);
    int64_t id = number(w, "SELECT last_message_id FROM pgqrsd_schedules");
    assert_int_equal(id, number(w, "SELECT max(id) FROM pgqrs_messages"));
    suite_ok(w, pgqrs_store_message_act(w->stores[0], PGQRS_ACT_CANCEL, &id, 1, &acted, &w->err));
    assert_int_equal(acted, PGQRS_ACTED_YES);
    assert_int_equal(look_at(w, START_US + 5 * HOUR_US, NULL), 1); /* of two */
    id = number(w, "SELECT last_message_id FROM pgqrsd_schedules");
    suite_ok(w, pgqrs_store_message_act(w->stores[0], PGQRS_ACT_DELETE, &id, 1, &acted, &w->err));
    assert_int_equal(look_at(w, START_US + 6 * HOUR_US, NULL), 1);
}

/* ---- more than one look fires ---- */

static void test_many(void **state)
{
    struct world *w = *state;
    const int64_t tick = START_US + HOUR_US;
    int64_t next_us = 0;
    size_t messages = 0;
    size_t looks = 0;
    for (int i = 0; i < 50; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "s%d", i);
        create(w, (struct pgqrs_schedule_put){.name = name, .cron = "0 * * * *"});
    }
    for (next_us = START_US; next_us < tick;) {
        assert_int_equal(look_at(w, START_US, &next_us), 0);
    }
    assert_int_equal(next_us, tick);
    for (; next_us <= tick; looks++) {
        messages += look_at(w, tick, &next_us);
    }
    assert_int_equal(messages, 50);
    assert_true(looks > 1 && looks <= 10);
    assert_int_equal(next_us, tick + HOUR_US);
}

/* ---- what can not be planned ---- */

static void test_trouble(void **state)
{
    struct world *w = *state;
    create(w, (struct pgqrs_schedule_put){.name = "bad", .cron = "0 25 * * *"});
    create(w, (struct pgqrs_schedule_put){.name = "good", .cron = "0 * * * *"});
    struct pgqrs_schedule_look look = {.now_us = START_US + HOUR_US};
    suite_ok(w, pgqrs_schedules_look(w->stores[0], &look, &w->err));
    assert_non_null(strstr(look.trouble.text, "schedule \"bad\""));
    assert_int_equal(look.messages, 1);
    assert_int_equal(look.next_us, START_US + HOUR_US + 60 * SECOND_US);
    suite_ok(w, pgqrs_schedules_look(w->stores[0], &look, &w->err));
    assert_int_equal(look.fired, 0);
}

#define BOTH(test)                                                                                 \
    {.name = "sqlite: " #test,                                                                     \
     .test_func = (test),                                                                          \
     .setup_func = setup_sqlite,                                                                   \
     .teardown_func = teardown},                                                                   \
    {                                                                                              \
        .name = "postgres: " #test, .test_func = (test), .setup_func = setup_pg,                   \
        .teardown_func = teardown                                                                  \
    }

#define THROUGH_BROKER(test)                                                                       \
    {                                                                                              \
        .name = "broker: " #test, .test_func = (test), .setup_func = setup_remote,                 \
        .teardown_func = teardown                                                                  \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_create_list_delete),
        THROUGH_BROKER(test_create_list_delete),
        BOTH(test_configure),
        BOTH(test_pause),
        THROUGH_BROKER(test_pause),
        BOTH(test_year),
        BOTH(test_catch_up_skip),
        BOTH(test_catch_up_once),
        BOTH(test_catch_up_all),
        BOTH(test_late_skip),
        BOTH(test_late_once),
        BOTH(test_late_all),
        BOTH(test_clock_jumps),
        BOTH(test_overlap),
        BOTH(test_trouble),
        BOTH(test_many),
    };
    return cmocka_run_group_tests_name("schedules", tests, NULL, NULL);
}
