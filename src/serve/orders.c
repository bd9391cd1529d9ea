#include "serve/orders.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/node.h"
#include "serve/place.h"
#include "serve/site.h"

#include <stdlib.h>
#include <string.h>

// A place on this node that another one has ordered.
struct ordered {
    struct serve *s;
    char by[NODE_ID];
    uint64_t n; // the gateway's number
    struct place *place;
    TAILQ_ENTRY(ordered) next;
};

static void ordered_free(struct ordered *o) {
    place_drop(o->place);
    TAILQ_REMOVE(&o->s->ordered, o, next);
    free(o);
}

// ---------------------------------------------------------------- what the gateway is told
// Takes msg over. A word that cannot be sent is lost with its link, and so is the place.
static void tell(const struct ordered *o, json_t *msg) {
    struct err why;
    if (!msg || json_object_set_new(msg, "n", json_integer((json_int_t)o->n)))
        log_error("out of memory telling node %.8s about its request", o->by);
    else if (node_send(o->s, o->by, msg, &why))
        log_debug("node %.8s: %s", o->by, why.msg);
    json_decref(msg);
}

static json_t *error_json(const struct err *why) { return error_encode(0, why); }

static void on_opened(void *arg, const struct place_opened *p) {
    json_t *msg = json_pack("{s:s, s:i, s:i, s:i, s:s, s:s}", "t", "site.opened", "prompt_tokens",
                            (int)p->begin.prompt_tokens, "cached", (int)p->begin.cached_tokens, "credits",
                            (int)p->credits, "contract", p->contract, "weights", p->weights);
    int rc = 0;
    if (p->begin.tokens) rc = json_object_set_new(msg, "tokens", json_ints(p->begin.tokens, p->begin.prompt_tokens));
    if (p->begin.prompt_text) rc |= json_object_set_new(msg, "prompt_text", json_string(p->begin.prompt_text));
    if (rc) log_error("out of memory");
    tell(arg, msg);
}

static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t id) {
    tell(arg, json_pack("{s:s, s:s%, s:i, s:i}", "t", "site.text", "text", text, len, "tokens", (int)tokens, "token",
                        (int)id));
}

static void on_installed(void *arg, int32_t upto, uint64_t bytes) {
    tell(arg, json_pack("{s:s, s:i, s:I}", "t", "site.installed", "upto", (int)upto, "bytes", (json_int_t)bytes));
}

static void on_paused(void *arg, int32_t tokens, int32_t past) {
    tell(arg, json_pack("{s:s, s:i, s:i}", "t", "site.paused", "tokens", (int)tokens, "past", (int)past));
}

static void on_cut(void *arg, const struct err *why) {
    tell(arg, json_pack("{s:s, s:o}", "t", "site.broken", "error", error_json(why)));
}

static void on_ended(void *arg, const struct gen_result *r) {
    tell(arg, json_pack("{s:s, s:o}", "t", "site.ended", "result", result_encode(0, r)));
    ordered_free(arg);
}

static void tell_failed(const struct ordered *o, const struct err *why) {
    tell(o, json_pack("{s:s, s:o}", "t", "site.failed", "error", error_json(why)));
}

static void on_failed(void *arg, const struct err *why) {
    tell_failed(arg, why);
    ordered_free(arg);
}

// ---------------------------------------------------------------- what it orders
static int open_spec(const json_t *msg, struct place_spec *spec, struct gen_request *gen, struct err *e) {
    json_t *request = NULL;
    int64_t stream = 0;
    uint64_t n;
    *spec = (struct place_spec){.model = "", .gen = gen, .contract = "", .weights = "", .from = ""};
    if (json_get_object(msg, "gen", &request, e) || json_get_string(msg, "model", &spec->model, e) ||
        json_get_string(msg, "contract", &spec->contract, e) || json_get_string(msg, "weights", &spec->weights, e) ||
        json_get_string(msg, "from", &spec->from, e) || json_get_int(msg, "stream", 0, INT64_MAX, &stream, e))
        return -1;
    spec->stream = (uint64_t)stream;
    if (!request) return err_param(e, "gen", "'gen' is missing");
    return gen_decode(request, &n, gen, e);
}

static bool may_open(const struct serve *s, const char *by, uint64_t n, struct err *e) {
    const struct ordered *one;
    size_t count = 0;
    TAILQ_FOREACH(one, &s->ordered, next) {
        if (strcmp(one->by, by)) continue;
        count++;
        if (one->n == n) {
            err_set(e, ERR_INVALID, "number %llu is taken", (unsigned long long)n);
            return false;
        }
    }
    if (count >= ORDERS_MOST) err_set(e, ERR_BUSY, "%zu requests of that node are open already", count);
    return count < ORDERS_MOST;
}

static void obey_open(struct serve *s, const struct peer *p, uint64_t n, const json_t *msg) {
    static const struct place_events events = {on_opened, on_text,  on_installed, on_paused,
                                               on_cut,    on_ended, on_failed};
    struct place_spec spec;
    struct gen_request gen;
    struct err why;
    struct ordered *o = calloc(1, sizeof *o), refused = {.s = s, .n = n};
    snprintf(refused.by, sizeof refused.by, "%s", p->id);
    gen_request_init(&gen);
    if (!o)
        err_set(&why, ERR_INTERNAL, "out of memory");
    else if (may_open(s, p->id, n, &why) && !open_spec(msg, &spec, &gen, &why)) {
        *o = refused;
        TAILQ_INSERT_TAIL(&s->ordered, o, next);
        o->place = site_open(s, &spec, &events, o, &why);
        if (!o->place) TAILQ_REMOVE(&s->ordered, o, next);
    }
    if (!o || !o->place) {
        tell_failed(&refused, &why);
        free(o);
    }
    gen_request_free(&gen);
}

static int obey_start(struct ordered *o, const json_t *msg, struct err *e) {
    int32_t *generated, n;
    int64_t from = -1;
    if (json_get_int(msg, "from", -1, INT32_MAX, &from, e) ||
        json_get_ints(msg, "generated", 0, INT32_MAX, LIMIT_JSON_VALUES, &generated, &n, e))
        return -1;
    int rc = place_start(o->place, generated, n, (int32_t)from, e);
    free(generated);
    return rc;
}

static int obey_stream(struct ordered *o, const json_t *msg, struct err *e) {
    struct place_target to = {.node = "", .wire = ""};
    int64_t stream = 0, first = 0, credits = 0;
    if (json_get_string(msg, "to", &to.node, e) || json_get_string(msg, "wire", &to.wire, e) ||
        json_get_int(msg, "stream", 0, INT64_MAX, &stream, e) || json_get_int(msg, "first", 0, INT32_MAX, &first, e) ||
        json_get_int(msg, "credits", 0, LIMIT_KV_CREDITS, &credits, e))
        return -1;
    to.stream = (uint64_t)stream;
    to.first = (int32_t)first;
    to.credits = (int32_t)credits;
    return place_stream(o->place, &to, e);
}

static int obey_pause(struct ordered *o, const json_t *msg, struct err *e) {
    (void)msg;
    return place_pause(o->place, e);
}

static int obey_cut(struct ordered *o, const json_t *msg, struct err *e) {
    (void)msg, (void)e;
    place_cut(o->place);
    return 0;
}

static const struct {
    const char *type;
    int (*obey)(struct ordered *o, const json_t *msg, struct err *e);
} obeyed[] = {
    {"site.start", obey_start}, {"site.stream", obey_stream}, {"site.pause", obey_pause}, {"site.cut", obey_cut}};

static struct ordered *find(struct serve *s, const char *by, uint64_t n) {
    struct ordered *o;
    TAILQ_FOREACH(o, &s->ordered, next) {
        if (o->n == n && !strcmp(o->by, by)) return o;
    }
    return NULL;
}

static bool credit(struct serve *s, const json_t *msg) {
    struct err why;
    int64_t stream = -1, units = 0;
    if (json_get_int(msg, "stream", 0, INT64_MAX, &stream, &why) ||
        json_get_int(msg, "units", 0, LIMIT_KV_CREDITS, &units, &why))
        log_debug("a credit that makes no sense: %s", why.msg);
    else
        site_credit(s, (uint64_t)stream, (int32_t)units);
    return true;
}

bool orders_heard(struct serve *s, const struct peer *p, const char *type, const json_t *msg) {
    if (!strcmp(type, "site.credit")) return credit(s, msg);
    json_int_t number = json_integer_value(json_object_get(msg, "n"));
    uint64_t n = number > 0 ? (uint64_t)number : 0;
    struct ordered *o = find(s, p->id, n);
    if (!strcmp(type, "site.open")) {
        obey_open(s, p, n, msg);
        return true;
    }
    if (!strcmp(type, "site.drop")) {
        if (o) ordered_free(o);
        return true;
    }
    for (size_t i = 0; i < sizeof obeyed / sizeof *obeyed; i++) {
        if (strcmp(type, obeyed[i].type)) continue;
        struct err why;
        if (o && obeyed[i].obey(o, msg, &why)) on_failed(o, &why);
        return true;
    }
    return false;
}

void orders_lost(struct serve *s, const struct peer *p) {
    struct ordered *o, *after;
    for (o = TAILQ_FIRST(&s->ordered); o; o = after) {
        after = TAILQ_NEXT(o, next);
        if (!p || !strcmp(o->by, p->id)) ordered_free(o);
    }
}
