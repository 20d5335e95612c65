/* SPDX-License-Identifier: Apache-2.0 */
/* Part of exec.c: the settings, and the environment of the command. */
#ifndef PGQRS_EXEC_SETTINGS_H
#define PGQRS_EXEC_SETTINGS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include <pgqrs/handler.h>

#define OUTPUT_DEFAULT 65536
#define OUTPUT_MAX (1024 * 1024)
#define JOB_VARIABLES 3

struct state {
    char **command; /* ends with null */
    char **env;     /* "NAME=value"; the first JOB_VARIABLES are made for each job */
    size_t max_output;
    char *output; /* max_output bytes */
};

static int bad_setting(const struct pgqrs_setup *setup, const char *key, const json_t *found,
                       const char *expected)
{
    char *text = found == NULL ? NULL : json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
    (void)snprintf(setup->error, setup->error_size, "settings: %s: found %.100s, expected %s", key,
                   text != NULL ? text : "nothing", expected);
    free(text);
    return -1;
}

static int out_of_memory(const struct pgqrs_setup *setup)
{
    (void)snprintf(setup->error, setup->error_size, "out of memory");
    return -1;
}

static int take_command(const struct pgqrs_setup *setup, const json_t *value, struct state *state)
{
    static const char expected[] = "an array of strings, the first of them a program";
    size_t count = json_array_size(value); /* 0 when it is no array */
    state->command = calloc(count + 1, sizeof *state->command);
    if (state->command == NULL) {
        return out_of_memory(setup);
    }
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(value, i));
        if (text == NULL || (i == 0 && text[0] == 0)) {
            return bad_setting(setup, "command", value, expected);
        }
        state->command[i] = strdup(text);
        if (state->command[i] == NULL) {
            return out_of_memory(setup);
        }
    }
    return count == 0 ? bad_setting(setup, "command", value, expected) : 0;
}

/* Ours, then what the worker has, except what is meant for the worker alone. A variable that is
 * there twice would be found the first time. */
static int take_env(const struct pgqrs_setup *setup, json_t *value, struct state *state)
{
    size_t inherited = 0;
    while (environ[inherited] != NULL) {
        inherited++;
    }
    state->env =
        calloc(JOB_VARIABLES + json_object_size(value) + inherited + 1, sizeof *state->env);
    if (state->env == NULL) {
        return out_of_memory(setup);
    }
    size_t count = JOB_VARIABLES;
    const char *name;
    json_t *item;
    json_object_foreach(value, name, item)
    {
        const char *text = json_string_value(item);
        if (text == NULL || name[0] == 0 || strchr(name, '=') != NULL) {
            (void)snprintf(setup->error, setup->error_size,
                           "settings: env: \"%.100s\": expected a name and a string", name);
            return -1;
        }
        if (asprintf(&state->env[count], "%s=%s", name, text) < 0) {
            state->env[count] = NULL;
            return out_of_memory(setup);
        }
        count++;
    }
    for (size_t i = 0; i < inherited; i++) {
        char variable[64];
        (void)snprintf(variable, sizeof variable, "%.*s", (int)strcspn(environ[i], "="),
                       environ[i]);
        if (strncmp(variable, "PGQRS_", 6) == 0 || json_object_get(value, variable) != NULL) {
            continue;
        }
        state->env[count] = strdup(environ[i]);
        if (state->env[count++] == NULL) {
            return out_of_memory(setup);
        }
    }
    return 0;
}

static int take_settings(const struct pgqrs_setup *setup, json_t *settings, struct state *state)
{
    const char *key;
    json_t *value;
    json_object_foreach(settings, key, value)
    {
        if (strcmp(key, "command") != 0 && strcmp(key, "env") != 0 &&
            strcmp(key, "max_output") != 0) {
            return bad_setting(setup, key, value, "command, env or max_output");
        }
    }
    json_t *env = json_object_get(settings, "env");
    const json_t *max = json_object_get(settings, "max_output");
    if (env != NULL && !json_is_object(env)) {
        return bad_setting(setup, "env", env, "an object of names and strings");
    }
    if (max != NULL && (!json_is_integer(max) || json_integer_value(max) < 1 ||
                        json_integer_value(max) > OUTPUT_MAX)) {
        return bad_setting(setup, "max_output", max, "a whole number from 1 to 1048576");
    }
    state->max_output = max == NULL ? OUTPUT_DEFAULT : (size_t)json_integer_value(max);
    state->output = malloc(state->max_output);
    if (state->output == NULL) {
        return out_of_memory(setup);
    }
    return take_command(setup, json_object_get(settings, "command"), state) < 0
               ? -1
               : take_env(setup, env, state);
}

static inline void fini(void *opaque)
{
    struct state *state = opaque;
    for (size_t i = 0; state->command != NULL && state->command[i] != NULL; i++) {
        free(state->command[i]);
    }
    for (size_t i = JOB_VARIABLES; state->env != NULL && state->env[i] != NULL; i++) {
        free(state->env[i]);
    }
    free(state->command);
    free(state->env);
    free(state->output);
    free(state);
}

static inline int init(const struct pgqrs_setup *setup, void **state_out)
{
    json_t *settings = json_loads(setup->settings, 0, NULL);
    struct state *state = calloc(1, sizeof *state);
    if (state == NULL || settings == NULL) {
        json_decref(settings);
        free(state);
        return out_of_memory(setup);
    }
    int rc = take_settings(setup, settings, state);
    json_decref(settings);
    if (rc < 0) {
        fini(state);
        return -1;
    }
    *state_out = state;
    return 0;
}

#endif
