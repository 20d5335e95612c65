/* SPDX-License-Identifier: Apache-2.0 */
/* What libpgqrs is to a compiler and a linker: its header, its symbols, an installed tree. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Where the tests run with a sanitizer, so must what they build. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED "-fsanitize=address,undefined"
#elif defined(__SANITIZE_THREAD__)
#define SANITIZED "-fsanitize=thread"
#else
#define SANITIZED ""
#endif

static char dir[] = "/tmp/pgqrs-abi-XXXXXX";
static const char *build;

/* In the scratch directory, with B for the build's directory and CC for a compiler. Returns what it
 * exits with. */
static int shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int shell(const char *fmt, ...)
{
    char command[8192];
    char line[4096];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    (void)snprintf(command, sizeof command, "S=$PWD; B=%s; cd %s && { %s; } >log 2>&1", build, dir,
                   line);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void fail_with_log(const char *what)
{
    char log[4096];
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/log", dir);
    FILE *file = fopen(path, "r");
    size_t len = file == NULL ? 0 : fread(log, 1, sizeof log - 1, file);
    log[len] = 0;
    if (file != NULL) {
        (void)fclose(file);
    }
    fail_msg("%s: %s", what, log);
}

#define shell_ok(...)                                                                              \
    do {                                                                                           \
        if (shell(__VA_ARGS__) != 0) {                                                             \
            fail_with_log(#__VA_ARGS__);                                                           \
        }                                                                                          \
    } while (0)

static void write_file(const char *name, const char *text)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void header_in_c_and_cxx(void **state)
{
    (void)state;
    write_file("user.c", "#include <pgqrs/pgqrs.h>\n"
                         "#include <pgqrs/handler.h>\n"
                         "int f(void);\n"
                         "int f(void)\n"
                         "{\n"
                         "    struct pgqrs_options o = {0};\n"
                         "    struct pgqrs_item i = pgqrs_item_of(\"{}\");\n"
                         "    return (int)i.payload_len + (int)o.create;\n"
                         "}\n");
    write_file("user.cc", "#include <pgqrs/pgqrs.h>\n"
                          "int f()\n"
                          "{\n"
                          "    pgqrs_options o = {};\n"
                          "    pgqrs_item i = pgqrs_item_of(\"{}\");\n"
                          "    return int(i.payload_len) + int(o.create);\n"
                          "}\n");
    shell_ok(
        "for std in c11 c17 gnu17; do cc -std=$std -pedantic -Wall -Wextra -Wshadow -Wconversion "
        "-Werror -I\"$S/include\" -fsyntax-only user.c || exit 1; done");
    if (shell("command -v c++") != 0) {
        skip();
    }
    shell_ok("for std in c++11 c++17 c++20; do c++ -std=$std -pedantic -Wall -Wextra -Wshadow "
             "-Werror -I\"$S/include\" -fsyntax-only user.cc || exit 1; done");
}

/* The sizes are part of the ABI: whoever changes one breaks programs that are there. */
static void sizes(void **state)
{
    (void)state;
    write_file("sizes.c",
               "#include <pgqrs/pgqrs.h>\n"
               "#define IS(type, size) _Static_assert(sizeof(struct type) == (size), #type)\n"
               "IS(pgqrs_failure, 568);\n"
               "IS(pgqrs_rules, 72);\n"
               "IS(pgqrs_options, 136);\n"
               "IS(pgqrs_rate, 32);\n"
               "IS(pgqrs_queue_entry, 64);\n"
               "IS(pgqrs_counts, 112);\n"
               "IS(pgqrs_item, 88);\n"
               "IS(pgqrs_receipt, 16);\n"
               "IS(pgqrs_enqueue_in, 72);\n"
               "IS(pgqrs_message_entry, 152);\n"
               "IS(pgqrs_message_query, 80);\n"
               "IS(pgqrs_consumer_options, 88);\n"
               "IS(pgqrs_delivery, 64);\n"
               "IS(pgqrs_follow, 96);\n"
               "IS(pgqrs_verdict, 96);\n"
               "IS(pgqrs_worker_entry, 112);\n"
               "IS(pgqrs_worker_query, 80);\n"
               "IS(pgqrs_run_entry, 160);\n"
               "IS(pgqrs_run_query, 64);\n"
               "IS(pgqrs_step_entry, 96);\n");
    if (sizeof(void *) != 8) {
        skip();
    }
    shell_ok("cc -std=c17 -I\"$S/include\" -fsyntax-only sizes.c");
}

/* What the header declares, the .so exports, by one version, and the .a shows; nothing else. */
static void symbols(void **state)
{
    (void)state;
    shell_ok("cc -E -P -I\"$S/include\" -include pgqrs/pgqrs.h -x c /dev/null | "
             "tr -d '\\n' | tr ';{}' '\\n\\n\\n' | grep visibility | "
             "grep -o '\\bpgqrs_[a-z_]*(' | tr -d '(' | sort >declared");
    shell_ok("test $(wc -l <declared) -gt 40");
    shell_ok(
        "nm -D --defined-only $B/lib/libpgqrs.so | awk '$2 != \"A\" { print $3 }' | sort >shown; "
        "sed 's/@@*PGQRS_0\\.1$//' shown | diff declared - && ! grep -qv '@PGQRS_0.1$' shown");
    shell_ok("readelf -d $B/lib/libpgqrs.so | grep 'SONAME.*\\[libpgqrs.so.0\\]'");
    shell_ok("nm -g --defined-only $B/lib/libpgqrs.a | awk 'NF == 3 { print $3 }' | "
             "grep -v '^__asan\\|^__odr' | sort | diff declared -");
}

/* A program may use the names that the library uses inside. */
static void no_clash_in_the_archive(void **state)
{
    (void)state;
    write_file("clash.c", "#include <pgqrs/pgqrs.h>\n"
                          "#include <stdio.h>\n"
                          "int pgqrs_error_set(void);\n"
                          "int pgqrs_buf_put(void);\n"
                          "int pgqrs_store_open(void);\n"
                          "int pgqrs_error_set(void) { return 1; }\n"
                          "int pgqrs_buf_put(void) { return 2; }\n"
                          "int pgqrs_store_open(void) { return 3; }\n"
                          "int main(void)\n"
                          "{\n"
                          "    struct pgqrs_client *c = 0;\n"
                          "    struct pgqrs_failure why;\n"
                          "    if (pgqrs_connect(\"nothing\", 0, &c, &why) != -1) return 1;\n"
                          "    puts(why.text);\n"
                          "    return why.code != PGQRS_E_CONFIG || pgqrs_error_set() != 1;\n"
                          "}\n");
    shell_ok("cc " SANITIZED " -I\"$S/include\" -o clash clash.c $B/lib/libpgqrs.a "
             "$(pkg-config --libs sqlite3 libpq jansson) && ./clash");
}

static void an_installed_tree(void **state)
{
    (void)state;
    if (shell("command -v pkg-config") != 0) {
        skip();
    }
    /* What is built is there: this only copies it. */
    shell_ok("make -s -C \"$S\" -o programs B=$B PREFIX=/opt/pgqrs DESTDIR=%s/root install", dir);
    shell_ok("export PKG_CONFIG_PATH=root/opt/pgqrs/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=%s/root; "
             "test \"$(pkg-config --modversion pgqrs)\" = 0.1.0 && for e in enqueuer consumer; do "
             "cc " SANITIZED " -D_GNU_SOURCE -o $e \"$S\"/examples/clients/$e.c "
             "$(pkg-config --cflags --libs pgqrs) || exit 1; done",
             dir);
    shell_ok("D=sqlite:%s/jobs.db; P=\"$B/bin/pgqrs --dsn $D\"; export "
             "LD_LIBRARY_PATH=root/opt/pgqrs/lib; "
             "$P admin install && $P queue create mail && "
             "printf '{\"a\": 1}\\n2\\n' | ./enqueuer $D mail >ids && test $(wc -l <ids) = 2 && "
             "{ ./consumer $D mail tester >seen & pid=$!; i=0; "
             "until [ $(wc -l <seen) = 2 ] || [ $i = 200 ]; do i=$((i+1)); sleep 0.1; done; "
             "kill $pid; wait $pid; } && grep ': {\"a\":1}$' seen && "
             "$P -o json queue metrics mail | grep '\"archived\": *2'",
             dir);
    shell_ok("make -s -C \"$S\" B=$B PREFIX=/opt/pgqrs DESTDIR=%s/root uninstall && "
             "test -z \"$(find root ! -type d)\"",
             dir);
}

static int setup(void **state)
{
    (void)state;
    build = getenv("PGQRS_TEST_BUILD");
    return build == NULL || mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[PATH_MAX];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_in_c_and_cxx),
        cmocka_unit_test(sizes),
        cmocka_unit_test(symbols),
        cmocka_unit_test(no_clash_in_the_archive),
        cmocka_unit_test(an_installed_tree),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
