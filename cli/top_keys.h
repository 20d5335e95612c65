/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_CLI_TOP_KEYS_H
#define PGQRS_CLI_TOP_KEYS_H

/* What keys mean: the model and what is on its screen besides rows. */

#include "cli/top_model.h"
#include "cli/top_source.h"

enum pgqrs_top_key { /* others are characters, by their code */
                     PGQRS_TOP_KEY_OTHER = -1,
                     PGQRS_TOP_KEY_UP = -2,
                     PGQRS_TOP_KEY_DOWN = -3,
                     PGQRS_TOP_KEY_PAGE_UP = -4,
                     PGQRS_TOP_KEY_PAGE_DOWN = -5,
                     PGQRS_TOP_KEY_HOME = -6,
                     PGQRS_TOP_KEY_END = -7,
                     PGQRS_TOP_KEY_ENTER = -8,
                     PGQRS_TOP_KEY_BACKSPACE = -9,
                     PGQRS_TOP_KEY_ESCAPE = -10,
};

enum pgqrs_top_mode {
    PGQRS_TOP_BROWSING = 0,
    PGQRS_TOP_FILTERING, /* keys are the filter's text */
    PGQRS_TOP_ASKING,    /* y does what is in asked */
    PGQRS_TOP_HELPING,   /* any key goes back */
};

struct pgqrs_top_ui {
    struct pgqrs_top_model model;
    enum pgqrs_top_mode mode;
    struct pgqrs_top_act asked;
    struct pgqrs_top_act wanted; /* to be done now; taken away by who does it */
    char message[PGQRS_TOP_SAID];
    size_t page[PGQRS_TOP_PANES]; /* rows of each list that the screen has */
    bool quit;
};

void pgqrs_top_press(struct pgqrs_top_ui *ui, int32_t key);

#endif
