/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CONFIG_SETTINGS_H
#define PGQRS_CONFIG_SETTINGS_H

/*
 * Every setting is a row: its key, type, default, range, place in the struct, and help. The file,
 * the environment, the defaults and the printed list all go through these rows.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum pgqrs_setting_type {
    PGQRS_SETTING_NONE = 0,
    PGQRS_SETTING_INTEGER,
    PGQRS_SETTING_DURATION,
    PGQRS_SETTING_SIZE,
    PGQRS_SETTING_CHOICE,
    PGQRS_SETTING_PATH,      /* made absolute */
    PGQRS_SETTING_DSN,       /* the scheme is checked; a path in it is made absolute */
    PGQRS_SETTING_NAME,      /* 1 to 63 of A-Z a-z 0-9 . _ - */
    PGQRS_SETTING_SCHEMA,    /* of PostgreSQL, as pgqrs allows them */
    PGQRS_SETTING_HANDLER,   /* looked up, and can be read */
    PGQRS_SETTING_OBJECT,    /* any mapping, kept as JSON */
    PGQRS_SETTING_ACCOUNT,   /* a user or group, by name or number */
    PGQRS_SETTING_NAMES,     /* a list of names, kept with a space behind each */
    PGQRS_SETTING_QUEUES,    /* a mapping from queue names to the queue's settings */
    PGQRS_SETTING_SCHEDULES, /* the same of schedules */
    PGQRS_SETTING_CRON,      /* an expression of base/cron.h */
    PGQRS_SETTING_ZONE,      /* a time zone that is there */
    PGQRS_SETTING_QUEUE,     /* the name of one of the queues, which is checked later */
    PGQRS_SETTING_JSON,      /* any value, kept as JSON */
    PGQRS_SETTING_ADDRESS,   /* of base/address.h */
};

struct pgqrs_choice {
    const char *name; /* null ends the list */
    int64_t value;
};

struct pgqrs_setting {
    const char *key; /* a dot for each level */
    enum pgqrs_setting_type type;
    const char *def;      /* as in the file; null: none */
    const char *variable; /* of the environment, goes before the file; null: none */
    int64_t min, max;     /* of an integer; of a duration in ms */
    const struct pgqrs_choice *choices;
    size_t offset, size; /* in the struct */
    const char *help;
};

struct pgqrs_settings {
    const struct pgqrs_setting *rows;
    size_t count;
};

extern const struct pgqrs_settings pgqrs_settings_top;         /* in struct pgqrs_config */
extern const struct pgqrs_settings pgqrs_settings_of_queue;    /* in struct pgqrs_config_queue */
extern const struct pgqrs_settings pgqrs_settings_of_schedule; /* pgqrs_config_schedule */

const struct pgqrs_setting *pgqrs_setting_find(const struct pgqrs_settings *settings,
                                               const char *key);
/* True when some key begins with this one and a dot. */
bool pgqrs_setting_is_group(const struct pgqrs_settings *settings, const char *key);

/*
 * Parses text and stores it in the struct; a text that was there is freed. dir: what a relative
 * path is relative to. Of the types below OBJECT. "found ..., expected ..." on failure.
 */
int pgqrs_setting_store(const struct pgqrs_setting *setting, void *object, const char *text,
                        const char *dir, struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* "a whole number from 0 to 1024": what the setting takes. */
void pgqrs_setting_expects(const struct pgqrs_setting *setting, char *out, size_t size);
/* Stores every default. */
int pgqrs_settings_defaults(const struct pgqrs_settings *settings, void *object,
                            struct pgqrs_error *err) PGQRS_MUST_CHECK;
/* Stores what the environment says. The error begins with the variable's name. */
int pgqrs_settings_environment(const struct pgqrs_settings *settings, void *object,
                               struct pgqrs_error *err) PGQRS_MUST_CHECK;

/* ---- compare.c ---- */
/* Whether two structs have the same there. Queues are not looked at. */
bool pgqrs_setting_same(const struct pgqrs_setting *setting, const void *a, const void *b);
/* Two DSNs of PostgreSQL that differ in user and password alone. */
bool pgqrs_dsn_same_place(const char *a, const char *b);
/* Of a setting that is a number or a choice. */
void pgqrs_setting_copy_number(const struct pgqrs_setting *setting, void *to, const void *from);

/*
 * The keys that may stand below prefix ("" or such as "retry."), as "a, b, c", and the one of them
 * that is nearest to the unknown key, or an empty text when none is near.
 */
void pgqrs_settings_suggest(const struct pgqrs_settings *settings, const char *prefix,
                            const char *unknown, char nearest[64], char *known, size_t known_size);

#endif
