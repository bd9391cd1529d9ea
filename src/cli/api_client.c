#include "cli/api_client.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/settings.h"
#include "cli/interrupt.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_MS = 5000, GET_MS = 30000, POLL_MS = 1000, URL_SIZE = SETTING_SIZE + 512 };

struct api_client {
    char address[SETTING_SIZE];
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
};

// One call under way.
struct call {
    struct api_client *client;
    const char *path;
    struct buf in;   // the whole answer, or the unfinished line of a stream
    api_event event; // NULL: not a stream
    void *arg;
    bool failed, ended; // failed: *e is filled
    struct err *e;
};

static int append_header(struct api_client *c, const char *line, struct err *e) {
    struct curl_slist *more = curl_slist_append(c->headers, line);
    if (!more) return err_set(e, ERR_INTERNAL, "out of memory");
    c->headers = more;
    return 0;
}

// Whose requests these are, where they are not the owner's. Never an argument: those can be seen by others.
static int add_key(struct api_client *c, struct err *e) {
    const char *key = env_get("NEBULUS_KEY");
    return key ? api_add_header(c, "x-api-key", key, e) : 0;
}

struct api_client *api_open(const char *address, struct err *e) {
    size_t n = strlen(address);
    struct api_client *c = NULL;
    if (!n || n >= SETTING_SIZE ||
        strspn(address, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:[]-") != n) {
        err_param(e, "api", "'%.60s' is no address: give HOST:PORT, as in 127.0.0.1:7420", address);
        return NULL;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(c = calloc(1, sizeof *c))) goto failed;
    snprintf(c->address, sizeof c->address, "%s", address);
    // without `Expect:` curl waits a second before it sends a large body
    if ((c->multi = curl_multi_init()) && (c->easy = curl_easy_init()) && !append_header(c, "Expect:", e) &&
        !append_header(c, "Content-Type: application/json", e)) {
        if (!add_key(c, e)) return c;
        api_close(c);
        return NULL;
    }
failed:
    api_close(c);
    err_set(e, ERR_INTERNAL, "cannot set up libcurl: out of memory");
    return NULL;
}

void api_close(struct api_client *c) {
    if (!c) return;
    if (c->easy) curl_easy_cleanup(c->easy);
    if (c->multi) curl_multi_cleanup(c->multi);
    curl_slist_free_all(c->headers);
    free(c);
}

int api_add_header(struct api_client *c, const char *name, const char *value, struct err *e) {
    char line[512];
    for (const char *p = value; *p; p++)
        if ((unsigned char)*p < ' ') return err_param(e, name, "the value of %s holds a control character", name);
    if (snprintf(line, sizeof line, "%s: %s", name, value) >= (int)sizeof line)
        return err_param(e, name, "the value of %s is too long", name);
    return append_header(c, line, e);
}

const char *api_address(const struct api_client *c) { return c->address; }

// ---- what comes back

static enum err_code code_of_status(long status) {
    switch (status) {
    case 400:
    case 422: return ERR_INVALID;
    case 401:
    case 403: return ERR_DENIED;
    case 404: return ERR_NOT_FOUND;
    case 413: return ERR_LIMIT;
    case 408:
    case 429:
    case 503: return ERR_BUSY;
    default: return ERR_INTERNAL;
    }
}

// The daemon's {"error":{"message","param"}} as an error.
static int refusal(const json_t *answer, enum err_code code, struct err *e) {
    json_t *error = NULL;
    const char *message = NULL, *param = "";
    struct err ignored;
    if (json_get_object(answer, "error", &error, &ignored) || !error ||
        json_get_string(error, "message", &message, &ignored) || !message)
        return err_set(e, code, "the daemon failed without saying why: see its log");
    if (json_get_string(error, "param", &param, &ignored)) param = "";
    err_set(e, code, "%s", message);
    snprintf(e->param, sizeof e->param, "%s", param);
    return -1;
}

// An error within a stream has no status; its type says what it is.
static enum err_code code_of_event(const json_t *event) {
    const char *type = json_string_value(json_object_get(json_object_get(event, "error"), "type"));
    const char *code = json_string_value(json_object_get(json_object_get(event, "error"), "code"));
    if (code && !strcmp(code, "model_not_found")) return ERR_NOT_FOUND;
    if (type && !strcmp(type, "invalid_request_error")) return ERR_INVALID;
    return ERR_WORKER;
}

static int take_line(struct call *c, const char *line, size_t n) {
    if (n && line[n - 1] == '\r') n--;
    if (n >= 5 && !memcmp(line, "data:", 5)) {
        line += 5;
        n -= 5;
    } else if (n && line[0] != '{')
        return 0; // a comment, or the name of an event
    while (n && *line == ' ') {
        line++;
        n--;
    }
    if (n == 6 && !memcmp(line, "[DONE]", 6)) c->ended = true;
    if (!n || c->ended) return 0;
    json_t *event = json_parse(line, n, c->e);
    if (!event) return -1;
    int rc = json_is_object(json_object_get(event, "error")) ? refusal(event, code_of_event(event), c->e)
                                                             : c->event(c->arg, event, c->e);
    json_decref(event);
    return rc;
}

static int take_lines(struct call *c) {
    for (;;) {
        const char *end = c->in.len ? memchr(c->in.data, '\n', c->in.len) : NULL;
        if (!end) return 0;
        size_t n = (size_t)(end - c->in.data);
        if (take_line(c, c->in.data, n)) return -1;
        buf_consume(&c->in, n + 1);
    }
}

static size_t on_data(char *data, size_t size, size_t n, void *arg) {
    struct call *c = arg;
    long status = 0;
    (void)size; // always 1
    curl_easy_getinfo(c->client->easy, CURLINFO_RESPONSE_CODE, &status);
    if (buf_append(&c->in, data, n)) {
        err_set(c->e, ERR_LIMIT, "the daemon's answer is longer than %u bytes", LIMIT_API_ANSWER);
        c->failed = true;
    } else if (c->event && status < 400 && take_lines(c))
        c->failed = true;
    return c->failed ? 0 : n; // 0 ends the transfer
}

// ---- the call itself

static int perform(struct call *c, CURLcode *result) {
    CURLM *m = c->client->multi;
    int running = 1, left;
    struct curl_waitfd wake = {.fd = interrupt_fd(), .events = CURL_WAIT_POLLIN};
    *result = CURLE_FAILED_INIT;
    if (curl_multi_add_handle(m, c->client->easy)) return err_set(c->e, ERR_INTERNAL, "libcurl refuses the request");
    while (running && !interrupt_pending()) {
        if (curl_multi_perform(m, &running)) break;
        if (running) curl_multi_poll(m, &wake, wake.fd >= 0, POLL_MS, NULL);
    }
    for (CURLMsg *msg; (msg = curl_multi_info_read(m, &left));)
        if (msg->msg == CURLMSG_DONE) *result = msg->data.result;
    curl_multi_remove_handle(m, c->client->easy); // closes the connection where the answer is unfinished
    return running ? err_set(c->e, ERR_CANCELLED, "interrupted") : 0;
}

static int finish(struct call *c, CURLcode result) {
    long status = 0;
    const char *at = c->client->address;
    curl_easy_getinfo(c->client->easy, CURLINFO_RESPONSE_CODE, &status);
    if (c->failed) return -1;
    switch (result) {
    case CURLE_OK: break;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
        return err_set(c->e, ERR_UNREACHABLE,
                       "no daemon answers at %s: start one with `nebulus serve`, or name another with --api", at);
    case CURLE_URL_MALFORMAT:
        return err_param(c->e, "api", "'%s' is no address: give HOST:PORT, as in 127.0.0.1:7420", at);
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(c->e, ERR_UNREACHABLE, "the daemon at %s does not answer in time: see its log", at);
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
        return err_set(c->e, ERR_UNREACHABLE, "the daemon at %s went away before its answer was complete: see its log",
                       at);
    default:
        return err_set(c->e, ERR_UNREACHABLE, "cannot talk to the daemon at %s: %s", at, curl_easy_strerror(result));
    }
    if (status < 300) return 0;
    struct err ignored;
    json_t *answer = json_parse(buf_str(&c->in), c->in.len, &ignored);
    int rc = answer ? refusal(answer, code_of_status(status), c->e)
                    : err_set(c->e, code_of_status(status), "what answers at %s is not a nebulus daemon (HTTP %ld)", at,
                              status);
    json_decref(answer);
    return rc;
}

static void prepare(struct call *c, const char *url, const char *body) {
    CURL *h = c->client->easy;
    curl_easy_reset(h);
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(h, CURLOPT_PROXY, "");
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "nebulus/" NEBULUS_VERSION);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, c->client->headers);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
    if (body) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, body);
    } else
        curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)GET_MS);
}

static int run_call(struct call *c, const json_t *body) {
    char url[URL_SIZE];
    int rc = -1;
    CURLcode result;
    char *text = body ? json_text(body) : NULL;
    if (body && !text) {
        err_set(c->e, ERR_INTERNAL, "out of memory");
        goto out;
    }
    if (snprintf(url, sizeof url, "http://%s%s", c->client->address, c->path) >= (int)sizeof url) {
        err_set(c->e, ERR_LIMIT, "a request's path is too long");
        goto out;
    }
    buf_init(&c->in, LIMIT_API_ANSWER);
    prepare(c, url, text);
    if (perform(c, &result) || finish(c, result)) goto out;
    rc = 0;
out:
    free(text);
    return rc;
}

static int whole(struct api_client *client, const char *path, const json_t *body, json_t **out, struct err *e) {
    struct err why = {.code = ERR_NONE}, ignored;
    struct call c = {.client = client, .path = path, .e = &why};
    *out = NULL;
    int rc = run_call(&c, body);
    if (!rc && !(*out = json_parse(buf_str(&c.in), c.in.len, &ignored)))
        rc = err_set(&why, ERR_UNREACHABLE, "what answers at %s is not a nebulus daemon", client->address);
    buf_free(&c.in);
    if (rc && e) *e = why;
    return rc;
}

int api_get(struct api_client *c, const char *path, json_t **out, struct err *e) {
    return whole(c, path, NULL, out, e);
}

int api_post(struct api_client *c, const char *path, const json_t *body, json_t **out, struct err *e) {
    return whole(c, path, body, out, e);
}

int api_stream(struct api_client *client, const char *path, const json_t *body, api_event event, void *arg,
               struct err *e) {
    struct err why = {.code = ERR_NONE};
    struct call c = {.client = client, .path = path, .e = &why, .event = event, .arg = arg};
    int rc = run_call(&c, body);
    if (!rc && c.in.len && !c.ended) rc = take_line(&c, c.in.data, c.in.len); // a last line without its newline
    buf_free(&c.in);
    if (rc && e) *e = why;
    return rc;
}
