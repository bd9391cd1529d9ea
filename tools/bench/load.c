#include "load.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BODY = 1 << 20, REQUEST_SECONDS = 300 };
#define FIRST_TOKEN 1000 // above the control and byte tokens of any model

struct reading { // one answer
    struct buf line;
    uint64_t first_ns, last_ns;
    int64_t completion_tokens;
};

struct crowd { // all clients of a load
    const struct load *l;
    struct load_result *out;
    atomic_int next;
    pthread_mutex_t lock; // for e
    atomic_bool failed;
    struct err *e;
};

static uint64_t mix_bits(uint64_t x) { // splitmix64
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static int write_body(struct buf *b, const struct load *l, int number) {
    uint64_t key = mix_bits(l->seed * 1000003u + (uint64_t)number);
    int n = l->mix.prompt_tokens[number % MIX_KINDS];
    buf_clear(b);
    buf_puts(b, "{\"prompt\":[");
    for (int i = 0; i < n; i++) {
        uint64_t token = FIRST_TOKEN + mix_bits(key + (uint64_t)i) % (uint64_t)(l->mix.vocabulary - FIRST_TOKEN);
        buf_printf(b, i ? ",%d" : "%d", (int)token);
    }
    return buf_printf(
        b,
        "],\"max_tokens\":%d,\"temperature\":%g,\"top_k\":40,\"top_p\":0.95,\"min_p\":0.05,\"seed\":%d,"
        "\"ignore_eos\":true,\"cache_prompt\":false,\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
        l->mix.max_tokens, l->mix.temperature, number);
}

static void read_event(struct reading *r, const char *data, size_t len) {
    const char *text = strstr(data, "\"text\":\"");
    if (text && text[8] != '"') {
        r->last_ns = clock_mono_ns();
        if (!r->first_ns) r->first_ns = r->last_ns;
    }
    if (!strstr(data, "\"usage\":{")) return;
    struct err e;
    json_t *event = json_parse(data, len, &e), *usage = NULL;
    if (event && !json_get_object(event, "usage", &usage, &e) && usage &&
        json_get_int(usage, "completion_tokens", 0, INT32_MAX, &r->completion_tokens, &e))
        r->completion_tokens = -1;
    json_decref(event);
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg) {
    struct reading *r = arg;
    if (buf_append(&r->line, bytes, size * n)) return 0;
    for (char *end; (end = memchr(r->line.data, '\n', r->line.len));) {
        *end = 0;
        size_t len = (size_t)(end - r->line.data);
        if (!strncmp(r->line.data, "data: {", 7)) read_event(r, r->line.data + 6, len - 6);
        buf_consume(&r->line, len + 1);
    }
    return size * n;
}

// One request, from its first byte sent to its last received.
static int ask(struct crowd *c, CURL *curl, struct buf *body, int number, struct err *e) {
    struct reading r = {0};
    long status = 0;
    buf_init(&r.line, MAX_BODY);
    if (write_body(body, c->l, number)) return err_set(e, ERR_INTERNAL, "out of memory");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body->data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)body->len);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &r);
    uint64_t begin = clock_mono_ns();
    CURLcode rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    int bad = 0;
    if (rc)
        bad = err_set(e, ERR_UNREACHABLE, "request %d: %s", number, curl_easy_strerror(rc));
    else if (status != 200)
        bad = err_set(e, ERR_INVALID, "request %d: status %ld %.200s", number, status, buf_str(&r.line));
    else if (r.completion_tokens != c->l->mix.max_tokens || !r.first_ns)
        bad = err_set(e, ERR_INVALID, "request %d: %lld tokens came, not %d", number, (long long)r.completion_tokens,
                      c->l->mix.max_tokens);
    buf_free(&r.line);
    if (bad) return -1;
    c->out->seen[number] = (struct seen){
        .kind = number % MIX_KINDS,
        .completion_tokens = (int)r.completion_tokens,
        .ttft_s = (double)(r.first_ns - begin) / 1e9,
        .tpot_s = (double)(r.last_ns - r.first_ns) / 1e9 / (double)(r.completion_tokens - 1),
    };
    return 0;
}

static CURL *new_curl(uint16_t port, const char *path) {
    char url[256];
    CURL *curl = curl_easy_init();
    if (!curl) abort();
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", (unsigned)port, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)REQUEST_SECONDS);
    curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L); // servers close idle connections at moments of their own
    return curl;
}

static void *client(void *arg) {
    struct crowd *c = arg;
    CURL *curl = new_curl(c->l->port, "/v1/completions");
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    struct buf body;
    buf_init(&body, MAX_BODY);
    for (int i; !atomic_load(&c->failed) && (i = atomic_fetch_add(&c->next, 1)) < c->l->requests;) {
        struct err e;
        if (!ask(c, curl, &body, i, &e)) continue;
        pthread_mutex_lock(&c->lock);
        if (!atomic_exchange(&c->failed, true)) *c->e = e;
        pthread_mutex_unlock(&c->lock);
    }
    buf_free(&body);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return NULL;
}

int load_run(const struct load *l, struct load_result *out, struct err *e) {
    struct crowd c = {.l = l, .out = out, .lock = PTHREAD_MUTEX_INITIALIZER, .e = e};
    pthread_t threads[LOAD_MAX_CLIENTS];
    if (l->requests > LOAD_MAX_REQUESTS || l->clients > LOAD_MAX_CLIENTS)
        return err_set(e, ERR_LIMIT, "a load has at most %d requests and %d clients", LOAD_MAX_REQUESTS,
                       LOAD_MAX_CLIENTS);
    *out = (struct load_result){.count = l->requests};
    uint64_t begin = clock_mono_ns();
    for (int i = 0; i < l->clients; i++)
        if (pthread_create(&threads[i], NULL, client, &c)) abort();
    for (int i = 0; i < l->clients; i++) pthread_join(threads[i], NULL);
    out->wall_s = (double)(clock_mono_ns() - begin) / 1e9;
    for (int i = 0; i < l->requests; i++) {
        out->tokens_in += l->mix.prompt_tokens[i % MIX_KINDS];
        out->tokens_out += out->seen[i].completion_tokens;
    }
    return atomic_load(&c.failed) ? -1 : 0;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg) {
    return buf_append(arg, bytes, size * n) ? 0 : size * n;
}

long load_get(uint16_t port, const char *path, char **body) {
    struct buf b;
    long status = 0;
    CURL *curl = new_curl(port, path);
    buf_init(&b, MAX_BODY);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &b);
    if (!curl_easy_perform(curl)) curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (body) *body = strdup(buf_str(&b));
    buf_free(&b);
    return status;
}
