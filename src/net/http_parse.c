// Bytes to requests: llhttp in its strict mode, and what RFC 9112 asks for beyond it.
#include "base/id.h"
#include "base/text.h"
#include "net/http_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#if LLHTTP_VERSION_MAJOR < 9 || (LLHTTP_VERSION_MAJOR == 9 && LLHTTP_VERSION_MINOR < 3)
#error "llhttp 9.3 or newer is needed (on_protocol)"
#endif

static int fault(struct http_conn *c, int status, const char *code, const char *message) {
    c->fault = (struct http_fault){status, code, message};
    return HPE_USER;
}

static int bad(struct http_conn *c, const char *message) { return fault(c, 400, "bad_request", message); }

static int head_too_large(struct http_conn *c) {
    return fault(c, 431, "head_too_large",
                 "the request line and headers are larger than 64 KiB; send fewer or shorter headers");
}

static int body_too_large(struct http_conn *c) {
    return fault(c, 413, "body_too_large", "the request body is larger than 32 MiB; send less");
}

static int out_of_memory(struct http_conn *c) {
    return fault(c, 503, "out_of_memory", "out of memory; try again later");
}

static int wrong_version(struct http_conn *c) {
    return fault(c, 505, "http_version", "only HTTP/1.1 and HTTP/1.0 are spoken here");
}

// ---- the request line

static int on_protocol(llhttp_t *p, const char *at, size_t n) {
    struct http_conn *c = p->data;
    struct http_exchange *x = c->x;
    if (n > 4u - x->protocol || memcmp(at, &"HTTP"[x->protocol], n)) return bad(c, "the protocol is not HTTP");
    x->protocol += (unsigned)n;
    return 0;
}

static int on_method_complete(llhttp_t *p) {
    struct http_conn *c = p->data;
    c->x->head_only = llhttp_get_method(p) == HTTP_HEAD;
    return 0;
}

static int on_url(llhttp_t *p, const char *at, size_t n) {
    struct http_conn *c = p->data;
    return buf_append(&c->x->target, at, n) ? out_of_memory(c) : 0;
}

// 0..15, or -1
static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// Decodes s in place. -1 where a '%' does not begin an escape or the result is not printable UTF-8.
static int percent_decode(char *s) {
    char *out = s;
    for (; *s; s++) {
        unsigned char byte = (unsigned char)*s;
        if (byte == '%') {
            int high = hex_value(s[1]), low = high < 0 ? -1 : hex_value(s[2]);
            if (low < 0) return -1;
            byte = (unsigned char)(high << 4 | low);
            s += 2;
        }
        if (byte < 0x20 || byte == 0x7F) return -1;
        *out++ = (char)byte;
    }
    *out = 0;
    return 0;
}

static int split_target(struct http_conn *c) {
    struct http_exchange *x = c->x;
    char *path = buf_str(&x->target);
    bool asterisk = llhttp_get_method(&c->parser) == HTTP_OPTIONS && !strcmp(path, "*");
    if (*path != '/' && !asterisk) return bad(c, "the request target must be a path that begins with '/'");
    for (const unsigned char *s = (const unsigned char *)path; *s; s++)
        if (*s <= 0x20 || *s >= 0x7F || *s == '#')
            return bad(c, "the request target has a character that must be escaped");
    char *mark = strchr(path, '?');
    if (mark) *mark = 0;
    x->query = mark ? mark + 1 : "";
    if (percent_decode(path) || !text_is_utf8(path, strlen(path))) return bad(c, "the path has a bad percent escape");
    return 0;
}

// ---- header lines

// Trailers come through the header callbacks too: they are counted and ignored, as chunk extensions are.
static int ignore_trailer(struct http_conn *c, size_t n) {
    c->x->trailer_bytes += n;
    return c->x->trailer_bytes > LIMIT_HTTP_HEAD ? head_too_large(c) : 0;
}

static int on_extension(llhttp_t *p, const char *at, size_t n) {
    (void)at;
    return ignore_trailer(p->data, n);
}

static int on_field(llhttp_t *p, const char *at, size_t n) {
    struct http_conn *c = p->data;
    struct http_exchange *x = c->x;
    if (x->head_done) return ignore_trailer(c, n);
    if (x->field_count == LIMIT_HTTP_HEADERS)
        return fault(c, 431, "too_many_headers", "the request has more than 100 header lines");
    return buf_append(&x->head, at, n) ? head_too_large(c) : 0;
}

// The NUL behind the name. Called before the value also where that is empty.
static int on_field_complete(llhttp_t *p) {
    struct http_conn *c = p->data;
    struct http_exchange *x = c->x;
    if (x->head_done) return 0;
    if (buf_append(&x->head, "", 1)) return head_too_large(c);
    x->fields[x->field_count].value = (uint32_t)x->head.len;
    return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n) {
    struct http_conn *c = p->data;
    if (c->x->head_done) return ignore_trailer(c, n);
    return buf_append(&c->x->head, at, n) ? head_too_large(c) : 0;
}

static int on_value_complete(llhttp_t *p) {
    struct http_conn *c = p->data;
    struct http_exchange *x = c->x;
    if (x->head_done) return 0;
    while (x->head.len > x->fields[x->field_count].value && strchr(" \t", x->head.data[x->head.len - 1])) x->head.len--;
    if (buf_append(&x->head, "", 1)) return head_too_large(c);
    x->field_count++;
    if (x->field_count < LIMIT_HTTP_HEADERS) x->fields[x->field_count].name = (uint32_t)x->head.len;
    return 0;
}

static unsigned count_fields(const struct http_exchange *x, const char *name) {
    unsigned count = 0;
    for (unsigned i = 0; i < x->field_count; i++) count += !strcasecmp(x->head.data + x->fields[i].name, name);
    return count;
}

static int check_host(struct http_conn *c) {
    const struct http_exchange *x = c->x;
    unsigned count = count_fields(x, "host");
    if (count > 1) return bad(c, "the Host header is given more than once");
    if (count == 0) return x->old ? 0 : bad(c, "the Host header is missing");
    const char *host = http_header(x, "host");
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_~:[]%";
    return host[strspn(host, allowed)] ? bad(c, "the Host header is not a host name") : 0;
}

// How long the body is must be beyond doubt: see RFC 9112, section 6.1 and 11.2 (request smuggling).
static int check_framing(struct http_conn *c) {
    const struct http_exchange *x = c->x;
    unsigned codings = count_fields(x, "transfer-encoding");
    if (codings && x->old) return bad(c, "Transfer-Encoding needs HTTP/1.1");
    if (codings && count_fields(x, "content-length"))
        return bad(c, "Content-Length and Transfer-Encoding exclude each other");
    if (codings > 1 || (codings && strcasecmp(http_header(x, "transfer-encoding"), "chunked")))
        return fault(c, 501, "unknown_transfer_encoding", "the only Transfer-Encoding known here is 'chunked'");
    if (count_fields(x, "content-length") > 1) return bad(c, "the Content-Length header is given more than once");
    if ((c->parser.flags & F_CONTENT_LENGTH) && c->parser.content_length > LIMIT_HTTP_BODY) return body_too_large(c);
    return 0;
}

static int check_expect(struct http_conn *c) {
    const char *expect = http_header(c->x, "expect");
    if (!expect || c->x->old) return 0;
    if (strcasecmp(expect, "100-continue"))
        return fault(c, 417, "expectation_failed", "the only Expect known here is '100-continue'");
    bool body = (c->parser.flags & F_CHUNKED) || ((c->parser.flags & F_CONTENT_LENGTH) && c->parser.content_length > 0);
    return body && http_continue(c) ? out_of_memory(c) : 0;
}

static int on_head(llhttp_t *p) {
    struct http_conn *c = p->data;
    struct http_exchange *x = c->x;
    int major = llhttp_get_http_major(p), minor = llhttp_get_http_minor(p);
    if (major != 1 || minor > 1) return wrong_version(c);
    x->old = minor == 0;
    p->upgrade = 0; // an offer to upgrade is not taken up
    if (split_target(c) || check_host(c) || check_framing(c) || check_expect(c)) return HPE_USER;
    x->head_done = true;
    return 0;
}

// ---- the body

static int on_chunk(llhttp_t *p) {
    struct http_conn *c = p->data;
    return p->content_length > LIMIT_HTTP_BODY - c->x->body.len ? body_too_large(c) : 0;
}

static int on_body(llhttp_t *p, const char *at, size_t n) {
    struct http_conn *c = p->data;
    struct http_server *s = c->server;
    if (n > LIMIT_HTTP_BODY - c->x->body.len) return body_too_large(c);
    if (n > LIMIT_HTTP_BODIES - s->body_bytes)
        return fault(c, 503, "busy", "too many large requests are being received; try again later");
    if (buf_append(&c->x->body, at, n)) return out_of_memory(c);
    s->body_bytes += n;
    return 0;
}

static int on_complete(llhttp_t *p) {
    struct http_conn *c = p->data;
    c->x->complete = true;
    c->x->keep_alive = llhttp_should_keep_alive(p);
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_protocol = on_protocol,
    .on_method_complete = on_method_complete,
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_field_complete = on_field_complete,
    .on_header_value = on_value,
    .on_header_value_complete = on_value_complete,
    .on_headers_complete = on_head,
    .on_chunk_header = on_chunk,
    .on_chunk_extension_name = on_extension,
    .on_chunk_extension_value = on_extension,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

// ---- the door

int http_request_begin(struct http_conn *c) {
    struct http_exchange *x = calloc(1, sizeof *x);
    if (!x) return -1;
    x->conn = c;
    x->query = "";
    buf_init(&x->target, LIMIT_HTTP_HEAD);
    buf_init(&x->head, LIMIT_HTTP_HEAD + 2 * LIMIT_HTTP_HEADERS);
    buf_init(&x->body, LIMIT_HTTP_BODY);
    buf_init(&x->extra, LIMIT_HTTP_HEAD);
    char id[ID_SIZE];
    id_make("req_", id);
    http_add_header(x, "x-request-id", id);
    c->x = x;
    llhttp_init(&c->parser, HTTP_REQUEST, &settings);
    c->parser.data = c;
    return 0;
}

void http_exchange_free(struct http_exchange *x) {
    if (!x) return;
    x->conn->server->body_bytes -= x->body.len;
    buf_free(&x->target);
    buf_free(&x->head);
    buf_free(&x->body);
    buf_free(&x->extra);
    free(x);
}

// llhttp's own findings; its reasons are fixed texts.
static void llhttp_fault(struct http_conn *c, llhttp_errno_t error) {
    const llhttp_t *p = &c->parser;
    bool known = p->http_major == 1 && p->http_minor <= 1; // then only what follows the version is wrong
    if ((error == HPE_INVALID_VERSION && !known) || error == HPE_PAUSED_H2_UPGRADE)
        wrong_version(c);
    else if (error == HPE_INVALID_METHOD)
        bad(c, "the request method is unknown, or this is not HTTP");
    else
        bad(c, llhttp_get_error_reason(&c->parser));
}

size_t http_parse(struct http_conn *c, const char *data, size_t n) {
    struct http_exchange *x = c->x;
    bool in_head = !x->head_done;
    if (in_head && n > LIMIT_HTTP_HEAD - x->head_bytes) n = LIMIT_HTTP_HEAD - x->head_bytes;
    llhttp_errno_t error = llhttp_execute(&c->parser, data, n);
    size_t used = error == HPE_OK ? n : (size_t)(llhttp_get_error_pos(&c->parser) - data);
    if (in_head) x->head_bytes += used;
    if (x->complete || c->fault.status) return used;
    if (error != HPE_OK)
        llhttp_fault(c, error);
    else if (!x->head_done && x->head_bytes == LIMIT_HTTP_HEAD)
        head_too_large(c);
    return used;
}

// ---- what the handler asks

const char *http_method(const struct http_exchange *x) {
    return llhttp_method_name((llhttp_method_t)llhttp_get_method(&x->conn->parser));
}

const char *http_path(const struct http_exchange *x) { return x->target.data; }
const char *http_query(const struct http_exchange *x) { return x->query; }
const char *http_peer(const struct http_exchange *x) { return x->conn->peer; }

const char *http_header_at(const struct http_exchange *x, const char *name, unsigned n) {
    for (unsigned i = 0; i < x->field_count; i++)
        if (!strcasecmp(x->head.data + x->fields[i].name, name) && !n--) return x->head.data + x->fields[i].value;
    return NULL;
}

const char *http_header(const struct http_exchange *x, const char *name) { return http_header_at(x, name, 0); }

const char *http_body(const struct http_exchange *x, size_t *len) {
    *len = x->body.len;
    return x->body.data ? x->body.data : "";
}
