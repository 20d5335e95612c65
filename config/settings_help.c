/* SPDX-License-Identifier: Apache-2.0 */
/* What the table of settings says to a person: the list of them, and which key was meant. */
#include "config/settings.h"

#include <stdio.h>
#include <string.h>

#include "config/config.h"

#define KEY_MAX 32
#define NEAR 3 /* changes of one letter */

static size_t least(size_t a, size_t b, size_t c)
{
    size_t min = a < b ? a : b;
    return min < c ? min : c;
}

/* How many letters must be added, removed or changed to make one word of the other. */
static size_t distance(const char *a, const char *b)
{
    size_t row[KEY_MAX + 1];
    size_t width = strlen(b);
    if (width > KEY_MAX || strlen(a) > KEY_MAX) {
        return KEY_MAX;
    }
    for (size_t j = 0; j <= width; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != 0; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < width; j++) {
            size_t changed = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = least(changed, row[j] + 1, row[j + 1] + 1);
        }
    }
    return row[width];
}

void pgqrs_settings_suggest(const struct pgqrs_settings *settings, const char *prefix,
                            const char *unknown, char nearest[64], char *known, size_t known_size)
{
    char before[KEY_MAX] = "";
    size_t used = 0;
    size_t best = NEAR + 1;
    size_t skip = strlen(prefix);
    nearest[0] = 0;
    known[0] = 0;
    for (size_t i = 0; i < settings->count; i++) {
        const char *key = settings->rows[i].key;
        char word[KEY_MAX];
        if (strncmp(key, prefix, skip) != 0) {
            continue;
        }
        (void)snprintf(word, sizeof word, "%.*s", (int)strcspn(key + skip, "."), key + skip);
        if (strcmp(word, before) == 0) {
            continue; /* rows of one group stand together */
        }
        (void)snprintf(before, sizeof before, "%s", word);
        if (used < known_size) {
            int n = snprintf(known + used, known_size - used, "%s%s", used == 0 ? "" : ", ", word);
            used += n < 0 ? 0 : (size_t)n;
        }
        size_t d = distance(unknown, word);
        if (d < best && d < strlen(word)) {
            best = d;
            (void)snprintf(nearest, 64, "%s", word);
        }
    }
}

static void print_rows(const struct pgqrs_settings *settings, const char *prefix)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct pgqrs_setting *row = &settings->rows[i];
        char expected[128];
        pgqrs_setting_expects(row, expected, sizeof expected);
        (void)printf("%s%s\n    %s\n    %s", prefix, row->key, row->help, expected);
        if (row->def != NULL) {
            (void)printf("; default %s", row->def);
        }
        if (row->variable != NULL) {
            (void)printf("; environment %s", row->variable);
        }
        if (row->type == PGQRS_SETTING_DSN) {
            (void)printf(" or %s_FILE", row->variable);
        }
        (void)printf("\n");
    }
}

void pgqrs_config_print_settings(void)
{
    print_rows(&pgqrs_settings_top, "");
    print_rows(&pgqrs_settings_of_queue, "queues.NAME.");
    print_rows(&pgqrs_settings_of_schedule, "schedules.NAME.");
}
