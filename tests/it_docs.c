/* SPDX-License-Identifier: Apache-2.0 */
/* The commands in README, guides and manual pages do what they say: tests/docs.sh runs each
 * document as one session, all documents side by side. The last line counts what was run. */
#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <glob.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/pg_rig.h"
#include "tests/support/shell.h"

#define DOCUMENTS_MAX 64

struct document {
    const char *path;
    char name[64];
    pid_t pid;
    char log[128], counts[128];
};

static struct scratch scratch;
static struct pg_rig *rig;
static struct document documents[DOCUMENTS_MAX];
static struct CMUnitTest cases[DOCUMENTS_MAX + 8];
static int total_run, total_not_run;

static int free_port(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof here;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&here, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &len), 0);
    (void)close(fd);
    return ntohs(here.sin_port);
}

/* The session has a database of its own, and a process group that can be ended. */
static void begin(struct document *d, int number)
{
    char pg[200];
    char port[16];
    char directory[96] = "";
    for (const char *at = pg_rig_dir(); *at != 0; at++) {
        (void)snprintf(directory + strlen(directory), sizeof directory - strlen(directory),
                       *at == '/' ? "%%2F" : "%c", *at);
    }
    pg_rig_sql(rig, "CREATE DATABASE doc_%d OWNER jobs", number);
    (void)snprintf(pg, sizeof pg, "postgres://jobs@%s/doc_%d", directory, number);
    (void)snprintf(port, sizeof port, "%d", free_port());
    (void)snprintf(d->log, sizeof d->log, "%s/log.%d", scratch.dir, number);
    (void)snprintf(d->counts, sizeof d->counts, "%s/counts.%d", scratch.dir, number);
    d->pid = fork();
    assert_true(d->pid >= 0);
    if (d->pid == 0) {
        int fd = open(d->log, O_WRONLY | O_CREAT, 0600);
        if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) {
            _exit(120);
        }
        (void)execlp("timeout", "timeout", "-k", "5", "60", "tests/docs.sh", d->path, d->counts, pg,
                     port, (char *)NULL);
        _exit(121);
    }
}

/* The lines that have this in them; null: all. */
static void show(const char *path, const char *part)
{
    char line[400];
    FILE *log = fopen(path, "re");
    while (log != NULL && fgets(line, sizeof line, log) != NULL) {
        if (part == NULL || strstr(line, part) != NULL) {
            (void)fputs(line, stderr);
        }
    }
    if (log != NULL) {
        (void)fclose(log);
    }
}

static int finish(struct document *d)
{
    int status = -1;
    assert_int_equal(waitpid(d->pid, &status, 0), d->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void test_document(void **state)
{
    struct document *d = *state;
    int run = 0;
    int not_run = 0;
    int status = finish(d);
    if (status != 0) {
        show(d->log, NULL);
        fail_msg("%s: status %d", d->path, status);
    }
    FILE *counts = fopen(d->counts, "re");
    assert_non_null(counts);
    assert_int_equal(fscanf(counts, "%d %d", &run, &not_run), 2);
    (void)fclose(counts);
    show(d->log, ": not run: ");
    total_run += run;
    total_not_run += not_run;
}

/* What the sessions say of a document like this. */
static void session_says(const char *text, const char *found)
{
    static int number = 1000;
    char document[128];
    char log[16384] = "";
    struct document d = {.path = document};
    (void)snprintf(document, sizeof document, "%s/wrong.md", scratch.dir);
    scratch_write(&scratch, "wrong.md", "%s", text);
    begin(&d, number++);
    int status = finish(&d);
    FILE *file = fopen(d.log, "re");
    assert_non_null(file);
    log[fread(log, 1, sizeof log - 1, file)] = 0;
    (void)fclose(file);
    says(log, found);
    assert_int_equal(status, 1);
}

static void test_mistakes_are_found(void **state)
{
    (void)state;
    session_says("# A\n\n```sh\npgqrs --version\npgqrs queue list --al\n```\n",
                 "wrong.md:5: exit status 2");
    session_says("```sh\n(pgqrs admin verify) | cat\n```\n", "wrong.md:2: exit status 78");
    session_says("```yaml\nqueues:\n  a: {handler: checksum, consumer: 2}\n```\n", "unknown key");
    session_says("`a.c`:\n\n```c\nint a(;\n```\n```sh\ncc -c a.c\n```\n", "wrong.md:7:");
    session_says("```sql\nSELECT jobs.nothing();\n```\n", "wrong.md:1: exit status 3");
    session_says("```\npgqrs\n```\n", "wrong.md:1:");
    session_says("```sh\ntrue\n", "does not end");
    session_says("# A\n\n[a](#a) [b](#b)\n", "there is no #b");
}

/* tests/run.sh counts names of these characters only. */
static void add_case(size_t i, const char *path)
{
    struct document *d = &documents[i];
    d->path = path;
    (void)snprintf(d->name, sizeof d->name, "%s", path);
    for (char *c = d->name; *c != 0; c++) {
        *c = (char)(isalnum((unsigned char)*c) ? tolower((unsigned char)*c) : '_');
    }
    cases[i] = (struct CMUnitTest){.name = d->name, .test_func = test_document, .initial_state = d};
}

static int before_all(void **state)
{
    (void)state;
    scratch_create(&scratch);
    rig = pg_rig_create();
    pg_rig_sql(rig, "CREATE ROLE jobs LOGIN CREATEROLE");
    for (int i = 0; documents[i].path != NULL; i++) {
        begin(&documents[i], i);
    }
    return 0;
}

static int after_all(void **state)
{
    (void)state;
    scratch_remove(&scratch);
    return 0;
}

int main(void)
{
    size_t count = 0;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    puts("skipped: what a reader compiles is not sanitized"); /* and could not use the rest */
    return 0;
#endif
    static glob_t found;
    (void)glob("README.md", 0, NULL, &found);
    (void)glob("docs/*.md", GLOB_APPEND, NULL, &found);
    (void)glob("packaging/README.md", GLOB_APPEND, NULL, &found);
    (void)glob("docs/man/*.[158]", GLOB_APPEND, NULL, &found);
    for (; count < found.gl_pathc && count + 1 < DOCUMENTS_MAX; count++) {
        add_case(count, found.gl_pathv[count]);
    }
    cases[count] = (struct CMUnitTest)cmocka_unit_test(test_mistakes_are_found);
    int failed = _cmocka_run_group_tests("docs", cases, count + 1, before_all, after_all);
    printf("%d blocks of %zu documents were run, %d were not.", total_run, count, total_not_run);
    return failed;
}
