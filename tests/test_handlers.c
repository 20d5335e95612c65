/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers that ship, as they were built: hello, checksum and webhook. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/handler_rig.h"
#include "tests/support/http_script.h"

static char dir[] = "/tmp/pgqrs-handlers-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void test_hello(void **state)
{
    (void)state;
    struct handler_rig rig;
    handler_open(&rig, "hello", "{}");
    assert_int_equal(handler_run(&rig, "{\"name\":\"world\"}"), PGQRS_JOB_DONE);
    assert_string_equal(rig.output, "{\"greeted\": true}");
    handler_close(&rig);
}

/* ---- checksum ---- */

static enum pgqrs_job_outcome sum(struct handler_rig *rig, const char *path)
{
    char payload[128];
    (void)snprintf(payload, sizeof payload, "{\"path\": \"%s\"}", path);
    return handler_run(rig, payload);
}

static void test_checksum(void **state)
{
    (void)state;
    struct handler_rig rig;
    const char *path = in_dir("data");
    handler_open(&rig, "checksum", "{}");
    write_file(path, "abc"); /* the digests are those of FIPS 180 */
    assert_int_equal(sum(&rig, path), PGQRS_JOB_DONE);
    assert_string_equal(rig.output,
                        "{\"sha256\": "
                        "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\", "
                        "\"bytes\": 3}");
    write_file(path, "");
    assert_int_equal(sum(&rig, path), PGQRS_JOB_DONE);
    assert_string_equal(rig.output,
                        "{\"sha256\": "
                        "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\", "
                        "\"bytes\": 0}");
    char *million = malloc(1000001);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    million[1000000] = 0;
    write_file(path, million);
    free(million);
    assert_int_equal(sum(&rig, path), PGQRS_JOB_DONE);
    assert_non_null(
        strstr(rig.output, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
    assert_int_equal(handler_run_cancelled(&rig, "{\"path\": \"/etc/passwd\"}", NULL),
                     PGQRS_JOB_CANCELLED);
    (void)unlink(path);
    assert_int_equal(sum(&rig, path), PGQRS_JOB_FAIL);
    assert_non_null(strstr(rig.error, "No such file or directory"));
    assert_int_equal(sum(&rig, dir), PGQRS_JOB_FAIL);
    assert_non_null(strstr(rig.error, "is not a regular file"));
    assert_int_equal(sum(&rig, "/proc/self/mem"), PGQRS_JOB_RETRY); /* reads fail with EIO */
    assert_int_equal(handler_run(&rig, "{\"paht\": 1}"), PGQRS_JOB_FAIL);
    assert_non_null(strstr(rig.error, "payload: found {\"paht\": 1}, expected"));
    handler_close(&rig);
}

/* ---- webhook ---- */

#define SECRET "Bearer s3cret"

static void open_webhook(struct handler_rig *rig, int port, const char *more)
{
    char settings[512];
    (void)snprintf(settings, sizeof settings,
                   "{\"url\": \"http://127.0.0.1:%d/hook\", \"headers\": {\"Authorization\": "
                   "\"" SECRET "\", \"X-Empty\": \"\"}%s}",
                   port, more);
    handler_open(rig, "webhook", settings);
}

/* One request, answered so; the delay comes out in *delay_ms_out, if that is not null. */
static enum pgqrs_job_outcome answered(const char *answer, int64_t *delay_ms_out)
{
    struct handler_rig rig;
    struct http_script *script = http_script_start(answer, NULL);
    open_webhook(&rig, http_script_port(script), "");
    enum pgqrs_job_outcome outcome = handler_run(&rig, "{\"n\":1}");
    free(http_script_stop(script));
    if (delay_ms_out != NULL) {
        *delay_ms_out = rig.result.delay_ms;
    }
    assert_null(strstr(rig.error, "s3cret"));
    handler_close(&rig);
    return outcome;
}

static void test_webhook_request(void **state)
{
    (void)state;
    struct handler_rig rig;
    struct http_script *script = http_script_start("HTTP/1.1 204 None\r\n", NULL);
    open_webhook(&rig, http_script_port(script), ", \"method\": \"PUT\"");
    assert_int_equal(handler_run(&rig, "{\"n\":1}"), PGQRS_JOB_DONE);
    assert_string_equal(rig.output, "{\"status\": 204}");
    assert_int_equal(handler_run(&rig, "{\"n\":2}"), PGQRS_JOB_DONE);
    handler_close(&rig);
    char *request = http_script_stop(script);
    assert_int_equal(strncmp(request, "PUT /hook HTTP/1.1\r\n", 20), 0);
    assert_non_null(strstr(request, "\r\nX-Pgqrs-Job-Id: 17\r\n"));
    assert_non_null(strstr(request, "\r\nX-Pgqrs-Attempt: 2\r\n"));
    assert_non_null(strstr(request, "\r\nX-Pgqrs-Queue: mail\r\n"));
    assert_non_null(strstr(request, "\r\nAuthorization: " SECRET "\r\n"));
    assert_non_null(strstr(request, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(request, "\r\n\r\n{\"n\":2}"));
    free(request);
}

static void test_webhook_answers(void **state)
{
    (void)state;
    int64_t delay;
    assert_int_equal(answered("HTTP/1.1 200 OK\r\n", NULL), PGQRS_JOB_DONE);
    assert_int_equal(answered("HTTP/1.1 404 Not Found\r\n", NULL), PGQRS_JOB_FAIL);
    assert_int_equal(answered("HTTP/1.1 408 Timeout\r\n", NULL), PGQRS_JOB_RETRY);
    assert_int_equal(answered("HTTP/1.1 500 Oops\r\nRetry-After: 9\r\n", &delay), PGQRS_JOB_RETRY);
    assert_int_equal(delay, -1);
    assert_int_equal(answered("HTTP/1.1 302 Found\r\nLocation: /there\r\n", NULL), PGQRS_JOB_RETRY);
    assert_int_equal(answered("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n", &delay), PGQRS_JOB_RETRY);
    assert_int_equal(delay, 7000);
    assert_int_equal(answered("HTTP/1.1 503 Busy\r\n", &delay), PGQRS_JOB_RETRY);
    assert_int_equal(delay, -1);
    assert_int_equal(answered("HTTP/1.1 503 Busy\r\nRetry-After: soon\r\n", &delay),
                     PGQRS_JOB_RETRY);
    assert_int_equal(delay, -1);

    char text[128], date[64];
    time_t when = time(NULL) + 3600;
    struct tm utc;
    (void)strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&when, &utc));
    (void)snprintf(text, sizeof text, "HTTP/1.1 503 Busy\r\nRetry-After: %s\r\n", date);
    assert_int_equal(answered(text, &delay), PGQRS_JOB_RETRY);
    assert_in_range(delay, 3500 * 1000, 3600 * 1000);
    assert_int_equal(
        answered("HTTP/1.1 503 Busy\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", &delay),
        PGQRS_JOB_RETRY);
    assert_int_equal(delay, 0);
    assert_int_equal(answered("this is not HTTP\r\n", NULL), PGQRS_JOB_RETRY);
}

static void test_webhook_without_an_answer(void **state)
{
    (void)state;
    struct handler_rig rig;
    const char *file = in_dir("requested");
    struct http_script *script = http_script_start(NULL, NULL);
    int port = http_script_port(script);
    open_webhook(&rig, port, ", \"timeout_ms\": 50");
    assert_int_equal(handler_run(&rig, "{}"), PGQRS_JOB_RETRY);
    assert_non_null(strstr(rig.error, "no answer: "));
    handler_close(&rig);
    free(http_script_stop(script));

    open_webhook(&rig, port, ""); /* nobody listens there now */
    assert_int_equal(handler_run(&rig, "{}"), PGQRS_JOB_RETRY);
    assert_non_null(strstr(rig.error, "no answer: "));
    handler_close(&rig);

    script = http_script_start(NULL, file);
    open_webhook(&rig, http_script_port(script), "");
    assert_int_equal(handler_run_cancelled(&rig, "{}", file), PGQRS_JOB_CANCELLED);
    handler_close(&rig);
    free(http_script_stop(script));
    (void)unlink(file);
}

static void test_webhook_settings(void **state)
{
    (void)state;
    static const char url[] = "settings: url: found ";
    handler_refuses("webhook", "{}", "settings: url: found nothing, expected a string that begins");
    handler_refuses("webhook", "{\"url\": 5}", "settings: url: found 5, expected");
    handler_refuses("webhook", "{\"url\": \"ftp://x\"}", url);
    handler_refuses("webhook", "{\"url\": \"file:///etc/passwd\"}", url);
    handler_refuses("webhook", "{\"url\": \"http://x\", \"timeout_ms\": 0}",
                    "settings: timeout_ms: found 0, expected a whole number");
    handler_refuses("webhook", "{\"url\": \"http://x\", \"method\": \"GET \"}",
                    "settings: method: found a string, expected");
    handler_refuses("webhook", "{\"url\": \"http://x\", \"header\": {\"Authorization\": \"s\"}}",
                    "settings: header: found an object, expected url, method");
    handler_refuses("webhook", "{\"url\": \"http://x\", \"headers\": [\"s\"]}",
                    "settings: headers: found an array, expected an object");
    handler_refuses("webhook", "{\"url\": \"http://x\", \"headers\": {\"A\": \"s\\r\\nB: t\"}}",
                    "settings: headers: \"A\": expected");
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
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_webhook_request),
        cmocka_unit_test(test_webhook_answers),
        cmocka_unit_test(test_webhook_without_an_answer),
        cmocka_unit_test(test_webhook_settings),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
