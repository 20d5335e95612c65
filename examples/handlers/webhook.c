/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Posts each job's payload to a URL, as JSON, with the headers X-Pgqrs-Job-Id, X-Pgqrs-Attempt and
 * X-Pgqrs-Queue, by which a receiver can tell a second delivery from a first.
 *
 * Settings:
 *   url         http:// or https://
 *   method      optional, "POST"
 *   headers     {"Name": "value", ...}, optional; values never appear in an error
 *   timeout_ms  of the whole request, optional, 30000
 *
 * An answer 2xx is done, with the result {"status": 200}. 429 and 503 are tried again when their
 * Retry-After says; 408, 425 and whatever is neither 2xx nor 4xx (redirects are not followed), no
 * connection, or no answer in time, when the queue's retry policy says. Any other 4xx fails for
 * good.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <curl/curl.h>
#include <jansson.h>

#include <pgqrs/handler.h>

#define TIMEOUT_DEFAULT_MS 30000
#define TIMEOUT_MAX_MS (24 * 3600 * 1000)
#define JOB_HEADERS 3
#define POLL_MS 1000

struct state {
    CURLM *multi;
    CURL *easy; /* kept from job to job, and with it the connection */
    struct curl_slist *headers;
    char *method;
};

/* ---- one request ---- */

static size_t on_body(char *data, size_t size, size_t count, void *unused)
{
    (void)data;
    (void)unused;
    return size * count; /* nobody wants it, but it has to be read for the connection to be kept */
}

/* Until the transfer is over: its outcome. False when the job was cancelled. */
static bool perform(const struct state *state, const struct pgqrs_job *job, CURLcode *code_out)
{
    struct curl_waitfd cancel = {.fd = job->host->cancel_fd(job), .events = CURL_WAIT_POLLIN};
    for (;;) {
        int running = 0;
        if (curl_multi_perform(state->multi, &running) != CURLM_OK) {
            *code_out = CURLE_FAILED_INIT;
            return true;
        }
        if (running == 0) {
            break;
        }
        if (pgqrs_cancelled(job)) {
            return false;
        }
        (void)curl_multi_poll(state->multi, &cancel, 1, POLL_MS, NULL); /* perform looks again */
    }
    int left = 0;
    const CURLMsg *msg = curl_multi_info_read(state->multi, &left);
    *code_out = msg != NULL && msg->msg == CURLMSG_DONE ? msg->data.result : CURLE_FAILED_INIT;
    return true;
}

/* Milliseconds, or -1 when the answer had no Retry-After that we understand. */
static int64_t retry_after(CURL *easy)
{
    struct curl_header *header;
    if (curl_easy_header(easy, "Retry-After", 0, CURLH_HEADER, -1, &header) != CURLHE_OK) {
        return -1;
    }
    const char *value = header->value;
    size_t digits = strspn(value, "0123456789");
    if (digits > 0 && digits < 10 && value[digits] == 0) {
        return strtoll(value, NULL, 10) * 1000;
    }
    time_t when = curl_getdate(value, NULL);
    time_t now = time(NULL);
    return when < 0 ? -1 : when <= now ? 0 : (int64_t)(when - now) * 1000;
}

static enum pgqrs_outcome judge(const struct state *state, struct pgqrs_job *job)
{
    long status = 0;
    char result[48];
    (void)curl_easy_getinfo(state->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status < 300) {
        int n = snprintf(result, sizeof result, "{\"status\": %ld}", status);
        return job->host->set_result(job, result, (size_t)n) == 0
                   ? PGQRS_DONE
                   : pgqrs_retry(job, -1, "the result was not accepted");
    }
    if (status == 429 || status == 503) {
        return pgqrs_retry(job, retry_after(state->easy), "the receiver answered %ld", status);
    }
    bool for_good = status >= 400 && status < 500 && status != 408 && status != 425;
    return for_good ? pgqrs_fail(job, "the receiver answered %ld", status)
                    : pgqrs_retry(job, -1, "the receiver answered %ld", status);
}

/* The settings' headers and the job's in one list; null when out of memory. */
static struct curl_slist *make_headers(const struct state *state, const struct pgqrs_job *job)
{
    char lines[JOB_HEADERS][320];
    (void)snprintf(lines[0], sizeof lines[0], "X-Pgqrs-Job-Id: %lld", (long long)job->id);
    (void)snprintf(lines[1], sizeof lines[1], "X-Pgqrs-Attempt: %u", job->attempt);
    (void)snprintf(lines[2], sizeof lines[2], "X-Pgqrs-Queue: %s", job->queue);
    struct curl_slist *list = NULL;
    for (size_t i = 0; i < JOB_HEADERS; i++) {
        struct curl_slist *longer = curl_slist_append(list, lines[i]);
        if (longer == NULL) {
            curl_slist_free_all(list);
            return NULL;
        }
        list = longer;
    }
    struct curl_slist *last = list;
    while (last->next != NULL) {
        last = last->next;
    }
    last->next = state->headers; /* borrowed: cut off again by drop_headers */
    return list;
}

static void drop_headers(struct curl_slist *list)
{
    struct curl_slist *last = list;
    for (size_t i = 1; i < JOB_HEADERS; i++) {
        last = last->next;
    }
    last->next = NULL;
    curl_slist_free_all(list);
}

static enum pgqrs_outcome run(void *opaque, struct pgqrs_job *job)
{
    struct state *state = opaque;
    struct curl_slist *headers = make_headers(state, job);
    CURLcode code = CURLE_OUT_OF_MEMORY;
    if (headers == NULL) {
        return pgqrs_retry(job, -1, "out of memory");
    }
    (void)curl_easy_setopt(state->easy, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(state->easy, CURLOPT_POSTFIELDS, job->payload);
    (void)curl_easy_setopt(state->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)job->payload_len);
    (void)curl_easy_setopt(state->easy, CURLOPT_CUSTOMREQUEST, state->method);
    bool ended = true;
    if (curl_multi_add_handle(state->multi, state->easy) == CURLM_OK) {
        ended = perform(state, job, &code);
    }
    enum pgqrs_outcome outcome =
        !ended             ? PGQRS_CANCELLED
        : code == CURLE_OK ? judge(state, job)
                           : pgqrs_retry(job, -1, "no answer: %s", curl_easy_strerror(code));
    (void)curl_multi_remove_handle(state->multi, state->easy);
    (void)curl_easy_setopt(state->easy, CURLOPT_HTTPHEADER, NULL);
    drop_headers(headers);
    return outcome;
}

/* ---- settings ---- */

/* Texts and what is made of them may be secret: only their kind is shown. */
static int bad_setting(const struct pgqrs_setup *setup, const char *key, const json_t *found,
                       const char *expected)
{
    char *number = json_is_number(found) ? json_dumps(found, JSON_ENCODE_ANY) : NULL;
    const char *kind = found == NULL           ? "nothing"
                       : json_is_object(found) ? "an object"
                       : json_is_array(found)  ? "an array"
                       : json_is_string(found) ? "a string"
                                               : "another value";
    (void)snprintf(setup->error, setup->error_size, "settings: %s: found %s, expected %s", key,
                   number != NULL ? number : kind, expected);
    free(number);
    return -1;
}

static int out_of_memory(const struct pgqrs_setup *setup)
{
    (void)snprintf(setup->error, setup->error_size, "out of memory");
    return -1;
}

static int append(const struct pgqrs_setup *setup, struct state *state, const char *line)
{
    struct curl_slist *longer = curl_slist_append(state->headers, line);
    if (longer == NULL) {
        return out_of_memory(setup);
    }
    state->headers = longer;
    return 0;
}

static int take_headers(const struct pgqrs_setup *setup, json_t *headers, struct state *state)
{
    const char *name;
    json_t *value;
    bool typed = false;
    if (headers != NULL && !json_is_object(headers)) {
        return bad_setting(setup, "headers", headers, "an object of names and strings");
    }
    json_object_foreach(headers, name, value)
    {
        const char *text = json_string_value(value);
        char *line = NULL;
        if (text == NULL || name[0] == 0 || strpbrk(name, ":\r\n ") != NULL ||
            strpbrk(text, "\r\n") != NULL) {
            (void)snprintf(
                setup->error, setup->error_size,
                "settings: headers: \"%.100s\": expected a header's name and a string of "
                "one line",
                name);
            return -1;
        }
        /* curl's way to send a header without a value. */
        if (asprintf(&line, text[0] == 0 ? "%s;" : "%s: %s", name, text) < 0) {
            return out_of_memory(setup);
        }
        int rc = append(setup, state, line);
        free(line);
        if (rc < 0) {
            return -1;
        }
        typed = typed || strcasecmp(name, "Content-Type") == 0;
    }
    if (!typed && append(setup, state, "Content-Type: application/json") < 0) {
        return -1;
    }
    return append(setup, state, "Expect:"); /* do not wait for leave to send a large payload */
}

static bool set_options(CURL *easy, const char *url, long timeout_ms)
{
    return curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_USERAGENT, "pgqrs-webhook/1.0") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
}

static bool is_token(const char *text)
{
    return text != NULL && text[0] != 0 &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(text);
}

static int take_settings(const struct pgqrs_setup *setup, json_t *settings, struct state *state)
{
    const char *key;
    json_t *value;
    json_object_foreach(settings, key, value)
    {
        if (strcmp(key, "url") != 0 && strcmp(key, "method") != 0 && strcmp(key, "headers") != 0 &&
            strcmp(key, "timeout_ms") != 0) {
            return bad_setting(setup, key, value, "url, method, headers or timeout_ms");
        }
    }
    const json_t *url = json_object_get(settings, "url");
    const json_t *method = json_object_get(settings, "method");
    const json_t *timeout = json_object_get(settings, "timeout_ms");
    const char *address = json_string_value(url);
    if (address == NULL ||
        (strncasecmp(address, "http://", 7) != 0 && strncasecmp(address, "https://", 8) != 0)) {
        return bad_setting(setup, "url", url, "a string that begins with http:// or https://");
    }
    if (method != NULL && !is_token(json_string_value(method))) {
        return bad_setting(setup, "method", method, "a string of capital letters, such as \"PUT\"");
    }
    if (timeout != NULL && (!json_is_integer(timeout) || json_integer_value(timeout) < 1 ||
                            json_integer_value(timeout) > TIMEOUT_MAX_MS)) {
        return bad_setting(setup, "timeout_ms", timeout, "a whole number from 1 to 86400000");
    }
    long timeout_ms = timeout == NULL ? TIMEOUT_DEFAULT_MS : (long)json_integer_value(timeout);
    state->method = strdup(method == NULL ? "POST" : json_string_value(method));
    state->multi = curl_multi_init();
    state->easy = curl_easy_init();
    if (state->method == NULL || state->multi == NULL || state->easy == NULL ||
        !set_options(state->easy, address, timeout_ms)) {
        (void)snprintf(setup->error, setup->error_size, "libcurl can not be set up");
        return -1;
    }
    return take_headers(setup, json_object_get(settings, "headers"), state);
}

static void fini(void *opaque)
{
    struct state *state = opaque;
    curl_easy_cleanup(state->easy); /* these accept null */
    (void)curl_multi_cleanup(state->multi);
    curl_slist_free_all(state->headers);
    free(state->method);
    free(state);
    curl_global_cleanup();
}

static int init(const struct pgqrs_setup *setup, void **state_out)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return out_of_memory(setup);
    }
    json_t *settings = json_loads(setup->settings, 0, NULL);
    struct state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        json_decref(settings);
        curl_global_cleanup();
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

static const struct pgqrs_handler handler = {
    .abi = PGQRS_HANDLER_ABI,
    .size = sizeof handler,
    .name = "webhook",
    .version = "1.0",
    .init = init,
    .run = run,
    .fini = fini,
};

const struct pgqrs_handler *pgqrs_handler_entry(void)
{
    return &handler;
}
