/* SPDX-License-Identifier: Apache-2.0 */
/* Loading plugins: every way to refuse one, and those of other releases. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/host.h"
#include "worker/plugin.h"

static char dir[] = "/tmp/pgqrs-plugin-XXXXXX";

static const char *test_handler(const char *name)
{
    static char path[4096];
    (void)snprintf(path, sizeof path, "%s/tests/handlers/%s.so", getenv("PGQRS_TEST_BUILD"), name);
    return path;
}

static void expect_refusal(const char *path, const char *words)
{
    struct pgqrs_plugin plugin;
    struct pgqrs_error err = {0};
    assert_int_equal(pgqrs_plugin_load(path, &plugin, &err), -1);
    assert_non_null(strstr(err.text, path));
    if (strstr(err.text, words) == NULL) {
        fail_msg("found \"%s\", expected \"%s\" in it", err.text, words);
    }
}

static void load(const char *name, struct pgqrs_plugin *plugin)
{
    struct pgqrs_error err;
    if (pgqrs_plugin_load(test_handler(name), plugin, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static void test_file_that_is_no_plugin(void **state)
{
    (void)state;
    char path[128];
    expect_refusal(test_handler("no_such_file"), "No such file or directory");
    expect_refusal("noop.so", "No such file or directory"); /* never found by a search */
    expect_refusal(dir, "expected a shared object that can be loaded");
    (void)snprintf(path, sizeof path, "%s/text.so", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs("This is a text of more than sixty-four bytes, which is not a shared object.\n",
                file);
    (void)fclose(file);
    expect_refusal(path, "expected a shared object that can be loaded, found: ");
    if (geteuid() != 0) {
        assert_int_equal(chmod(path, 0), 0);
        expect_refusal(path, "Permission denied");
    }
    (void)unlink(path);
}

static void test_refusals(void **state)
{
    (void)state;
    expect_refusal(test_handler("no_symbol"), "no symbol pgqrs_handler_entry");
    expect_refusal(test_handler("null_entry"), "pgqrs_handler_entry: found a null result");
    expect_refusal(test_handler("wrong_abi"), "abi: found 8, expected 1");
    expect_refusal(test_handler("too_small"), "size: found 40, expected 48 or more");
    expect_refusal(test_handler("null_run"), "run: found null, expected a function");
}

static void test_other_releases(void **state)
{
    (void)state;
    struct pgqrs_plugin plugin;
    load("noop", &plugin);
    assert_string_equal(plugin.handler.name, "noop");
    assert_null(plugin.handler.init);
    assert_int_equal(plugin.handler.run(NULL, NULL), PGQRS_DONE);
    load("larger", &plugin);
    assert_string_equal(plugin.handler.version, "2.0");
    assert_int_equal(plugin.handler.run(NULL, NULL), PGQRS_SNOOZE);
}

static void test_init(void **state)
{
    (void)state;
    struct pgqrs_plugin plugin;
    struct pgqrs_error err;
    load("noop", &plugin); /* has no init and no fini */
    assert_int_equal(pgqrs_plugin_init(&plugin, "mail", "{}", &pgqrs_host_functions, &err), 0);
    pgqrs_plugin_fini(&plugin);
    load("init_fails", &plugin);
    assert_int_equal(pgqrs_plugin_init(&plugin, "mail", "{}", &pgqrs_host_functions, &err), -1);
    assert_string_equal(err.text, "handler init failed: no camera on queue \"mail\"");
    load("effect", &plugin);
    assert_int_equal(
        pgqrs_plugin_init(&plugin, "mail", "{\"file\":\"/dev/null\"}", &pgqrs_host_functions, &err),
        0);
    assert_non_null(plugin.state);
    pgqrs_plugin_fini(&plugin);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_that_is_no_plugin),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_other_releases),
        cmocka_unit_test(test_init),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
