/* SPDX-License-Identifier: Apache-2.0 */
#include "config/isolation.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/units.h"

#define NUMBER_MAX (INT64_C(4294967294)) /* the one above stands for none */
#define OPEN_FILES_MIN 64                /* what the worker itself needs, and some */

static bool is_variable(const char *text)
{
    size_t len = strcspn(text, "= \t\n*");
    return (len > 0 || *text == '*') && (text[len] == 0 || strcmp(text + len, "*") == 0);
}

int pgqrs_isolation_names(const struct pgqrs_yaml_node *list, char **text_out, size_t *line,
                          struct pgqrs_error *err)
{
    size_t size = 1;
    for (size_t i = 0; i < list->count; i++) {
        const struct pgqrs_yaml_node *item = &list->items[i];
        if (item->kind != PGQRS_YAML_SCALAR || !is_variable(item->text)) {
            char shown[PGQRS_YAML_SHOWN];
            *line = item->line;
            return pgqrs_error_set(
                err, PGQRS_ERR_CONFIG,
                "found %s, expected the name of a variable, or the beginning of one and *",
                pgqrs_yaml_show(item, shown));
        }
        size += strlen(item->text) + 1;
    }
    char *text = malloc(size);
    if (text == NULL) {
        return pgqrs_error_memory(err);
    }
    char *end = text;
    for (size_t i = 0; i < list->count; i++) {
        end = stpcpy(stpcpy(end, list->items[i].text), " ");
    }
    *end = 0;
    *text_out = text;
    return 0;
}

static int find_user(struct pgqrs_config_isolation *isolation, struct pgqrs_error *err)
{
    int64_t number;
    bool numeric = pgqrs_integer_parse(isolation->user, 0, NUMBER_MAX, &number, NULL) == 0;
    const struct passwd *entry = numeric ? getpwuid((uid_t)number) : getpwnam(isolation->user);
    if (entry == NULL && !numeric) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "found \"%.60s\", expected the name or number of a user",
                               isolation->user);
    }
    isolation->uid = entry != NULL ? entry->pw_uid : (uint32_t)number;
    if (isolation->uid == 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "found \"%.60s\", expected a user other than root", isolation->user);
    }
    if (entry == NULL && isolation->group == NULL) {
        return pgqrs_error_set(
            err, PGQRS_ERR_CONFIG,
            "found \"%.60s\", which has no entry, expected isolation.group with it",
            isolation->user);
    }
    if (geteuid() != 0) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "found \"%.60s\" while pgqrsd runs as uid %u, expected no user, or "
                               "pgqrsd to be started by root",
                               isolation->user, (unsigned)geteuid());
    }
    if (entry != NULL) {
        isolation->gid = entry->pw_gid;
    }
    return 0;
}

static int find_group(struct pgqrs_config_isolation *isolation, struct pgqrs_error *err)
{
    int64_t number;
    if (isolation->user == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "found \"%.60s\" without isolation.user, expected both or none",
                               isolation->group);
    }
    if (pgqrs_integer_parse(isolation->group, 0, NUMBER_MAX, &number, NULL) == 0) {
        isolation->gid = (uint32_t)number;
        return 0;
    }
    const struct group *entry = getgrnam(isolation->group);
    if (entry == NULL) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG,
                               "found \"%.60s\", expected the name or number of a group",
                               isolation->group);
    }
    isolation->gid = entry->gr_gid;
    return 0;
}

static int check_directory(const char *path, struct pgqrs_error *err)
{
    struct stat st;
    int rc = stat(path, &st);
    if (rc == 0 && S_ISDIR(st.st_mode)) {
        return 0;
    }
    return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found \"%.200s\" (%s), expected a directory",
                           path, strerror(rc < 0 ? errno : ENOTDIR));
}

int pgqrs_isolation_resolve(struct pgqrs_config_isolation *isolation, const char **setting_out,
                            struct pgqrs_error *err)
{
    *setting_out = "user";
    if (isolation->user != NULL && find_user(isolation, err) < 0) {
        return -1;
    }
    *setting_out = "group";
    if (isolation->group != NULL && find_group(isolation, err) < 0) {
        return -1;
    }
    *setting_out = "directory";
    if (isolation->directory != NULL && check_directory(isolation->directory, err) < 0) {
        return -1;
    }
    *setting_out = "open_files";
    if (isolation->open_files != 0 && isolation->open_files < OPEN_FILES_MIN) {
        return pgqrs_error_set(err, PGQRS_ERR_CONFIG, "found %d, expected 0, or %d or more",
                               (int)isolation->open_files, OPEN_FILES_MIN);
    }
    return 0;
}

void pgqrs_isolation_fini(struct pgqrs_config_isolation *isolation)
{
    free(isolation->user);
    free(isolation->group);
    free(isolation->directory);
    free(isolation->environment);
}
