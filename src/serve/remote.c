#include "serve/remote.h"
#include "base/json.h"
#include "serve/node.h"
#include "serve/place_ops.h"

#include <stdlib.h>
#include <string.h>

struct remote {
    struct place place;
    struct serve *s;
    char node[NODE_ID];
    uint64_t n;
    bool over; // ended or failed: nothing is open there any more
    TAILQ_ENTRY(remote) next;
};

static struct remote *remote_of(struct place *p) { return (struct remote *)p; }

// ---------------------------------------------------------------- orders
// Takes msg over; NULL counts as out of memory.
static int order(struct remote *r, json_t *msg, struct err *e) {
    int rc = -1;
    if (!msg || json_object_set_new(msg, "n", json_integer((json_int_t)r->n)))
        err_set(e, ERR_INTERNAL, "out of memory");
    else if (r->over)
        err_set(e, ERR_CANCELLED, "the request has ended there");
    else
        rc = node_send(r->s, r->node, msg, e);
    json_decref(msg);
    return rc;
}

static void order_or_forget(struct remote *r, const char *type) {
    struct err why;
    if (!r->over && order(r, json_pack("{s:s}", "t", type), &why))
        r->over = true; // its link is gone, and so is all of it
}

static int remote_start(struct place *p, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    return order(
        remote_of(p),
        json_pack("{s:s, s:o, s:i}", "t", "site.start", "generated", json_ints(generated, n), "from", (int)from), e);
}

static int remote_stream(struct place *p, const struct place_target *to, struct err *e) {
    return order(remote_of(p),
                 json_pack("{s:s, s:s, s:I, s:i, s:i, s:s}", "t", "site.stream", "to", to->node, "stream",
                           (json_int_t)to->stream, "first", (int)to->first, "credits", (int)to->credits, "wire",
                           to->wire),
                 e);
}

static int remote_pause(struct place *p, struct err *e) {
    return order(remote_of(p), json_pack("{s:s}", "t", "site.pause"), e);
}

static void remote_cut(struct place *p) { order_or_forget(remote_of(p), "site.cut"); }

static void remote_drop(struct place *p) {
    struct remote *r = remote_of(p);
    order_or_forget(r, "site.drop");
    TAILQ_REMOVE(&r->s->remotes, r, next);
    free(r);
}

struct place *remote_open(struct serve *s, const char *node, const struct place_spec *spec,
                          const struct place_events *ev, void *arg, struct err *e) {
    static const struct place_ops ops = {remote_start, remote_stream, remote_pause, remote_cut, remote_drop};
    struct remote *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *r = (struct remote){.place = {&ops, *ev, arg}, .s = s, .n = ++s->remote_n};
    snprintf(r->node, sizeof r->node, "%s", node);
    json_t *msg = json_pack("{s:s, s:s, s:o, s:s, s:s, s:s, s:I}", "t", "site.open", "model", spec->model, "gen",
                            gen_encode(r->n, spec->gen), "contract", spec->contract, "weights", spec->weights, "from",
                            spec->from, "stream", (json_int_t)spec->stream);
    if (order(r, msg, e)) {
        free(r);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&s->remotes, r, next);
    return &r->place;
}

// ---------------------------------------------------------------- what is told
typedef int (*teller)(struct remote *r, const json_t *msg, struct err *e);

static int told_opened(struct remote *r, const json_t *msg, struct err *e) {
    int64_t prompt = 0, cached = 0, credits = 0;
    int32_t *tokens = NULL, n = 0;
    struct place_opened o = {.contract = "", .weights = ""};
    if (json_get_int(msg, "prompt_tokens", 0, INT32_MAX, &prompt, e) ||
        json_get_int(msg, "cached", 0, prompt, &cached, e) ||
        json_get_int(msg, "credits", 0, LIMIT_KV_CREDITS, &credits, e) ||
        json_get_string(msg, "prompt_text", &o.begin.prompt_text, e) ||
        json_get_string(msg, "contract", &o.contract, e) || json_get_string(msg, "weights", &o.weights, e) ||
        json_get_ints(msg, "tokens", 0, INT32_MAX, LIMIT_JSON_VALUES, &tokens, &n, e))
        return -1;
    if (tokens && n != prompt) {
        free(tokens);
        return err_param(e, "tokens", "'tokens' does not hold the prompt's %d tokens", (int)prompt);
    }
    o.begin.prompt_tokens = (int32_t)prompt;
    o.begin.cached_tokens = (int32_t)cached;
    o.begin.tokens = tokens;
    o.credits = (int32_t)credits;
    r->place.ev.opened(r->place.arg, &o);
    free(tokens);
    return 0;
}

static int told_text(struct remote *r, const json_t *msg, struct err *e) {
    int64_t tokens = 0, id = -1;
    const json_t *text = json_object_get(msg, "text");
    if (json_get_int(msg, "tokens", 0, INT32_MAX, &tokens, e) || json_get_int(msg, "token", -1, INT32_MAX, &id, e))
        return -1;
    if (!json_is_string(text)) return err_param(e, "text", "'text' is not a string");
    r->place.ev.text(r->place.arg, json_string_value(text), json_string_length(text), (int32_t)tokens, (int32_t)id);
    return 0;
}

static int told_installed(struct remote *r, const json_t *msg, struct err *e) {
    int64_t upto = 0, bytes = 0;
    if (json_get_int(msg, "upto", 0, INT32_MAX, &upto, e) || json_get_int(msg, "bytes", 0, INT64_MAX, &bytes, e))
        return -1;
    r->place.ev.installed(r->place.arg, (int32_t)upto, (uint64_t)bytes);
    return 0;
}

static int told_paused(struct remote *r, const json_t *msg, struct err *e) {
    int64_t tokens = 0, past = 0;
    if (json_get_int(msg, "tokens", 0, INT32_MAX, &tokens, e) || json_get_int(msg, "past", 0, INT32_MAX, &past, e))
        return -1;
    r->place.ev.paused(r->place.arg, (int32_t)tokens, (int32_t)past);
    return 0;
}

static int told_broken(struct remote *r, const json_t *msg, struct err *e) {
    struct err why;
    if (error_decode(json_object_get(msg, "error"), &why, e)) return -1;
    r->place.ev.cut(r->place.arg, &why);
    return 0;
}

static int told_ended(struct remote *r, const json_t *msg, struct err *e) {
    struct gen_result result;
    if (result_decode(json_object_get(msg, "result"), &result, e)) return -1;
    r->over = true;
    r->place.ev.ended(r->place.arg, &result);
    return 0;
}

static int told_failed(struct remote *r, const json_t *msg, struct err *e) {
    struct err why;
    if (error_decode(json_object_get(msg, "error"), &why, e)) return -1;
    r->over = true;
    r->place.ev.failed(r->place.arg, &why);
    return 0;
}

static const struct {
    const char *type;
    teller tell;
} tellers[] = {
    {"site.opened", told_opened}, {"site.text", told_text},     {"site.installed", told_installed},
    {"site.paused", told_paused}, {"site.broken", told_broken}, {"site.ended", told_ended},
    {"site.failed", told_failed},
};

static struct remote *find(struct serve *s, const struct peer *p, const json_t *msg) {
    json_int_t n = json_integer_value(json_object_get(msg, "n"));
    struct remote *r;
    TAILQ_FOREACH(r, &s->remotes, next) {
        if (r->n == (uint64_t)n && !strcmp(r->node, p->id)) return r;
    }
    return NULL;
}

bool remote_heard(struct serve *s, const struct peer *p, const char *type, const json_t *msg) {
    for (size_t i = 0; i < sizeof tellers / sizeof *tellers; i++) {
        if (strcmp(type, tellers[i].type)) continue;
        struct remote *r = find(s, p, msg);
        struct err why;
        if (!r || r->over || !tellers[i].tell(r, msg, &why)) return true; // a late word about a place that was dropped
        order_or_forget(r, "site.drop");
        r->over = true;
        r->place.ev.failed(r->place.arg, &why);
        return true;
    }
    return false;
}

void remote_lost(struct serve *s, const struct peer *p, const struct err *why) {
    // a handler may drop any place: begin again after each
    for (struct remote *r = TAILQ_FIRST(&s->remotes); r;) {
        if (r->over || strcmp(r->node, p->id)) {
            r = TAILQ_NEXT(r, next);
            continue;
        }
        r->over = true;
        r->place.ev.failed(r->place.arg, why);
        r = TAILQ_FIRST(&s->remotes);
    }
}
