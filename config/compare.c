/* SPDX-License-Identifier: Apache-2.0 */
/* What is different in two configurations, row by row. */
#include <string.h>

#include "config/settings.h"

static bool same_text(const void *a, const void *b)
{
    const char *x;
    const char *y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x == NULL || y == NULL ? x == y : strcmp(x, y) == 0;
}

bool pgqrs_setting_same(const struct pgqrs_setting *setting, const void *a, const void *b)
{
    const char *x = (const char *)a + setting->offset;
    const char *y = (const char *)b + setting->offset;
    switch (setting->type) {
    case PGQRS_SETTING_INTEGER:
    case PGQRS_SETTING_DURATION:
    case PGQRS_SETTING_SIZE:
    case PGQRS_SETTING_CHOICE:
        return memcmp(x, y, setting->size) == 0;
    case PGQRS_SETTING_QUEUES:
    case PGQRS_SETTING_SCHEDULES:
    case PGQRS_SETTING_NONE:
        return true;
    default:
        return same_text(x, y);
    }
}

/* Behind "postgres://USER:PASSWORD@"; null: it is something else. */
static const char *place_of(const char *dsn)
{
    const char *at = strstr(dsn, "://");
    if (strncmp(dsn, "postgres", 8) != 0 || at == NULL) {
        return NULL;
    }
    at += 3;
    const char *user_end = memchr(at, '@', strcspn(at, "/?"));
    return user_end == NULL ? at : user_end + 1;
}

bool pgqrs_dsn_same_place(const char *a, const char *b)
{
    const char *x = place_of(a);
    const char *y = place_of(b);
    return x != NULL && y != NULL && strcmp(x, y) == 0;
}

void pgqrs_setting_copy_number(const struct pgqrs_setting *setting, void *to, const void *from)
{
    memcpy((char *)to + setting->offset, (const char *)from + setting->offset, setting->size);
}
