#include "serve/link_routes.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "serve/cluster_internal.h"
#include "serve/links.h"
#include "serve/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINKS_PATH "/nebulus/v1/links/"
static const char suffix[] = "/bench";

struct bench {
    struct call call;
    char node[NODE_ID];
};

// ---------------------------------------------------------------- whom
static void name_peers(const struct serve *s, char *out, size_t size) {
    const struct peers *all = cluster_peers(s->cluster);
    size_t used = 0;
    snprintf(out, size, "none");
    for (const struct peer *p = all ? peers_next(all, NULL) : NULL; p && used < size; p = peers_next(all, p)) {
        int n = snprintf(out + used, size - used, "%s%s", used ? ", " : "", p->name);
        used += n > 0 ? (size_t)n : size;
    }
}

static int find_node(const struct serve *s, const char *wish, char out[NODE_ID], struct err *e) {
    char known[256], shown[PEERS_NAME * 4];
    if (membership_check(s->cluster, e)) return -1;
    if (!node_find(s, "node", wish, out, e)) {
        return node_is_self(s, out) ? err_param(e, "node", "the link to measure is one to another node, not to itself")
                                    : 0;
    }
    if (e->code != ERR_NOT_FOUND) return -1;
    name_peers(s, known, sizeof known);
    text_escape(shown, sizeof shown, wish);
    err_param(e, "node", "there is no other node '%.64s' in the cluster; known: %s", shown, known);
    e->code = ERR_NOT_FOUND;
    return -1;
}

static int read_path(const struct call *c, char *out, size_t size, struct err *e) {
    const char *word = http_path(c->x) + sizeof LINKS_PATH - 1;
    size_t n = strlen(word), end = sizeof suffix - 1;
    bool fits = n > end && !strcmp(word + n - end, suffix) && n - end < size;
    if (!fits) return err_set(e, ERR_NOT_FOUND, "there is nothing at this path: POST " LINKS_PATH "NODE/bench");
    snprintf(out, size, "%.*s", (int)(n - end), word);
    return 0;
}

// ---------------------------------------------------------------- the answer
static json_t *result_json(const struct bench *b, const struct linkprobe_result *r) {
    const struct peer *p = cluster_find(b->call.s->cluster, b->node);
    double gb = (double)r->sent / 1e9, seconds = (double)r->ns / 1e9;
    return json_pack("{s:i, s:s, s:s, s:f, s:I, s:f, s:{s:f, s:f}, s:o}", "v", 1, "node", p ? p->name : b->node, "id",
                     b->node, "seconds", seconds, "bytes", (json_int_t)r->bytes, "gbit_s",
                     (double)r->bytes * 8 / 1e9 / seconds, "cpu_s_per_gb", "here", (double)r->cpu_here_ns / 1e9 / gb,
                     "there", (double)r->cpu_there_ns / 1e9 / gb, "rtt_ms",
                     p && p->rtt_ns ? json_real((double)p->rtt_ns / 1e6) : json_null());
}

static void on_done(void *arg, const struct linkprobe_result *r, const struct err *why) {
    struct bench *b = arg;
    if (r)
        call_answer(&b->call, result_json(b, r));
    else
        call_fail(&b->call, why);
    free(b);
}

static void on_left(void *arg) {
    struct bench *b = arg;
    links_forget(b->call.s->links, b);
    free(b);
}

static int start(const struct call *c, struct bench *b, struct err *e) {
    char wish[SETTING_SIZE];
    double seconds = 2;
    json_t *body = call_body(c, e);
    int rc = body ? json_get_real(body, "seconds", 0.05, LIMIT_PROBE_SECONDS, &seconds, e) : -1;
    json_decref(body);
    if (rc || read_path(c, wish, sizeof wish, e) || find_node(c->s, wish, b->node, e)) return -1;
    b->call = *c;
    return links_measure(c->s->links, b->node, LIMIT_PROBE_BYTES, (unsigned)(seconds * 1000), on_done, b, e);
}

void links_bench(const struct call *c) {
    struct err why = {.code = ERR_INTERNAL, .msg = "out of memory"};
    struct bench *b = calloc(1, sizeof *b);
    if (b && !start(c, b, &why)) {
        http_on_close(c->x, on_left, b);
        return;
    }
    free(b);
    call_fail(c, &why);
}
