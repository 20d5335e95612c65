/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the pgqrsd that runs here, by what it says of itself. */
#include "cli/doctor.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/ctl_link.h"

#define DEATHS_MANY 3 /* so recently: the next start will not help */
#define RECENT_US INT64_C(600000000)

static void tell_failing(struct pgqrs_doctor *d, const json_t *queue)
{
    char word[PGQRS_SHELL_WORD_SIZE];
    const char *name = pgqrs_shell_word(pgqrs_status_text(queue, "queue"), word);
    pgqrs_doctor_found(d, PGQRS_SEVERITY_ERROR, "queue \"%s\" is failing since %s: %.600s",
                       pgqrs_status_text(queue, "queue"), pgqrs_status_text(queue, "failing_since"),
                       pgqrs_status_text(queue, "failing"));
    pgqrs_doctor_mend(d, "pgqrs ctl deaths %s; pgqrs ctl reload", name);
}

int pgqrs_check_failing(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    const json_t *queues = json_object_get(d->pgqrsd, "queues");
    (void)err;
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        if (*pgqrs_status_text(queue, "failing") != 0) {
            tell_failing(d, queue);
        }
    }
    return 0;
}

/* A time of RFC 3339, or 0. */
static int64_t time_of(const json_t *object, const char *key)
{
    char text[PGQRS_TIMESTAMP_SIZE];
    int64_t us;
    (void)snprintf(text, sizeof text, "%s", pgqrs_status_text(object, key));
    text[strcspn(text, "Z")] = 0;
    if (text[0] != 0 && text[strcspn(text, "T")] == 'T') {
        text[strcspn(text, "T")] = ' ';
    }
    return pgqrs_timestamp_parse(text, &us, NULL) == 0 ? us : 0;
}

/* Deaths of the last minutes and after since_us, of a queue or (null) of the broker; *why_out is
 * about the last one. */
static size_t count_deaths(const json_t *reply, const char *queue, int64_t since_us,
                           const char **why_out)
{
    const json_t *deaths = json_object_get(reply, "deaths");
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(deaths); i++) {
        const json_t *death = json_array_get(deaths, i);
        const json_t *of = json_object_get(death, "queue");
        int64_t at_us = time_of(death, "at");
        bool is_of = queue == NULL ? json_is_null(of)
                                   : strcmp(pgqrs_status_text(death, "queue"), queue) == 0;
        bool asked = json_is_true(json_object_get(death, "by_request"));
        if (is_of && !asked && at_us >= since_us && pgqrs_wall_us() - at_us < RECENT_US) {
            *why_out = pgqrs_status_text(death, "reason");
            count++;
        }
    }
    return count;
}

static void tell_dying(struct pgqrs_doctor *d, const json_t *deaths, const char *queue,
                       int64_t since_us)
{
    char word[PGQRS_SHELL_WORD_SIZE];
    const char *why = "";
    size_t count = count_deaths(deaths, queue, since_us, &why);
    if (count < DEATHS_MANY) {
        return;
    }
    if (queue == NULL) {
        pgqrs_doctor_found(d, PGQRS_SEVERITY_ERROR,
                           "the broker of pgqrsd \"%s\" has died %zu times in 10 minutes, last: "
                           "%.600s",
                           pgqrs_status_text(d->pgqrsd, "name"), count, why);
        pgqrs_doctor_mend(d, "pgqrs ctl deaths");
    } else {
        pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                           "queue \"%s\" has lost %zu workers in 10 minutes, last: %.600s", queue,
                           count, why);
        pgqrs_doctor_mend(d, "pgqrs ctl deaths %s; pgqrs ctl reload, once its plugin is mended",
                          pgqrs_shell_word(queue, word));
    }
}

/* Of a queue that is failing its deaths are known to be why. */
int pgqrs_check_dying(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    const json_t *queues = json_object_get(d->pgqrsd, "queues");
    json_t *deaths = NULL;
    if (d->pgqrsd == NULL) {
        return 0;
    }
    if (pgqrs_ctl_try(d->cli, json_pack("{s:s}", "command", "deaths"), &deaths, err) < 0) {
        return -1;
    }
    tell_dying(d, deaths, NULL, 0);
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        if (*pgqrs_status_text(queue, "failing") == 0) {
            tell_dying(d, deaths, pgqrs_status_text(queue, "queue"),
                       time_of(queue, "version_since")); /* those of another are history */
        }
    }
    json_decref(deaths);
    return 0;
}

int pgqrs_check_plugins(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    const json_t *queues = json_object_get(d->pgqrsd, "queues");
    (void)err;
    for (size_t i = 0; i < json_array_size(queues); i++) {
        const json_t *queue = json_array_get(queues, i);
        const char *name = pgqrs_status_text(queue, "queue");
        const char *path = pgqrs_status_text(queue, "plugin");
        if (*pgqrs_status_text(queue, "reload_refused") != 0) {
            pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                               "queue \"%s\" goes on with its old version, the new one is not "
                               "used: %.600s",
                               name, pgqrs_status_text(queue, "reload_refused"));
            pgqrs_doctor_mend(d, "mend %.600s or its settings, then: pgqrs ctl reload", path);
        } else if (strcmp(pgqrs_status_text(queue, "plugin_file"), "changed") == 0) {
            pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                               "the plugin of queue \"%s\" is not the file at %.600s any more, "
                               "which has changed since it was loaded",
                               name, path);
            pgqrs_doctor_mend(d, "pgqrs ctl reload");
        } else if (strcmp(pgqrs_status_text(queue, "plugin_file"), "gone") == 0) {
            pgqrs_doctor_found(d, PGQRS_SEVERITY_WARNING,
                               "the plugin of queue \"%s\" is gone: there is no file %.600s any "
                               "more; what was loaded goes on until pgqrsd is started again",
                               name, path);
            pgqrs_doctor_mend(d, "pgqrs ctl reload, once the file is there again");
        }
    }
    return 0;
}
