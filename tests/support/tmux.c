/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/tmux.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define LOOK_MS 20

bool tmux_is_installed(void)
{
    return system("tmux -V >/dev/null 2>&1") == 0;
}

static int run(const struct tmux *t, const char *command, const char *redirect)
{
    char line[1024];
    (void)snprintf(line, sizeof line, "tmux -S %s/tmux %s %s", t->scratch->dir, command, redirect);
    return system(line);
}

void tmux_do(const struct tmux *t, const char *fmt, ...)
{
    char command[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    if (run(t, command, "") != 0) {
        fail_msg("tmux %s", command);
    }
}

void tmux_line(const struct tmux *t, const char *line)
{
    tmux_do(t, "send-keys -l '%s'", line);
    tmux_do(t, "send-keys Enter");
}

static void write_shell(const struct scratch *s)
{
    const char *valgrind = getenv("PGQRS_TEST_VALGRIND") != NULL
                               ? "valgrind -q --leak-check=full --error-exitcode=99 "
                               : "";
    char *program = realpath(built("bin/pgqrs"), NULL);
    assert_non_null(program);
    scratch_write(s, "shell", "cd %s; PS1='here$ '; p() { %s%s \"$@\"; }\n", s->dir, valgrind,
                  program);
    scratch_write(s, "tmux.conf",
                  "set -g default-terminal screen\nset -g status off\nset -g default-command "
                  "'exec env ENV=%s/shell LC_ALL=C.UTF-8 sh -i'\n",
                  s->dir);
    free(program);
}

/* The server is our child, which dies with us; with it end the shell and what that runs. */
void tmux_start(struct tmux *t, const struct scratch *s, int columns, int lines)
{
    t->scratch = s;
    write_shell(s);
    t->pid = fork();
    if (t->pid == 0) {
        char socket_path[128];
        char config[128];
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)unsetenv("TMUX");
        (void)snprintf(socket_path, sizeof socket_path, "%s/tmux", s->dir);
        (void)snprintf(config, sizeof config, "%s/tmux.conf", s->dir);
        (void)execlp("tmux", "tmux", "-S", socket_path, "-f", config, "-u", "-D", (char *)NULL);
        _exit(127);
    }
    assert_true(t->pid > 0);
    char command[64];
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    (void)snprintf(command, sizeof command, "-u -N new-session -d -x %d -y %d", columns, lines);
    while (run(t, command, "2>/dev/null") != 0) {
        if (pgqrs_mono_ms() > deadline) {
            fail_msg("tmux does not start");
        }
        (void)poll(NULL, 0, LOOK_MS);
    }
    tmux_await(t, "here$");
}

void tmux_stop(struct tmux *t)
{
    if (t->pid > 0) {
        (void)kill(t->pid, SIGKILL);
        (void)waitpid(t->pid, NULL, 0);
        t->pid = 0;
    }
}

/* ---- the screen ---- */

const char *tmux_look(struct tmux *t)
{
    char command[256];
    (void)snprintf(command, sizeof command, "tmux -S %s/tmux capture-pane -p", t->scratch->dir);
    FILE *out = popen(command, "re");
    assert_non_null(out);
    size_t len = fread(t->screen, 1, sizeof t->screen - 1, out);
    t->screen[len] = 0;
    if (pclose(out) != 0) {
        fail_msg("tmux shows no screen");
    }
    return t->screen;
}

static void await(struct tmux *t, const char *text, bool there)
{
    int64_t deadline = pgqrs_mono_ms() + WAIT_MS;
    while ((strstr(tmux_look(t), text) != NULL) != there) {
        if (pgqrs_mono_ms() > deadline) {
            fail_msg("expected %s\"%s\", found:\n%s", there ? "" : "no ", text, t->screen);
        }
        (void)poll(NULL, 0, LOOK_MS);
    }
}

void tmux_await(struct tmux *t, const char *text)
{
    await(t, text, true);
}

void tmux_await_no(struct tmux *t, const char *text)
{
    await(t, text, false);
}
