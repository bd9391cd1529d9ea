#include "serve/remote.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/node.h"
#include "serve/place_ops.h"
#include "serve/sitemsg.h"

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

// Where it cannot be sent, the link ends, and all of the place with it, as remote_lost will tell.
static void order_if_there(struct remote *r, const char *type) {
    struct err why;
    if (!r->over && order(r, sitemsg_write_plain(type), &why)) node_cut(r->s, r->node, &why);
}

static int remote_start(struct place *p, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    if (n > (int32_t)LIMIT_PROMPT_IDS)
        return err_set(e, ERR_LIMIT, "an answer of %d tokens is too long to move", (int)n);
    return order(remote_of(p), sitemsg_write_start(generated, n, from), e);
}

static int remote_stream(struct place *p, const struct place_target *to, struct err *e) {
    return order(remote_of(p), sitemsg_write_stream(to), e);
}

static int remote_pause(struct place *p, struct err *e) {
    return order(remote_of(p), sitemsg_write_plain("site.pause"), e);
}

static int remote_permit(struct place *p, json_t *ticket, struct err *e) {
    return order(remote_of(p), sitemsg_write_ticket(ticket), e);
}

static void remote_cut(struct place *p) { order_if_there(remote_of(p), "site.cut"); }

static void remote_drop(struct place *p) {
    struct remote *r = remote_of(p);
    order_if_there(r, "site.drop");
    TAILQ_REMOVE(&r->s->remotes, r, next);
    free(r);
}

struct place *remote_open(struct serve *s, const char *node, const struct place_spec *spec,
                          const struct place_events *ev, void *arg, struct err *e) {
    static const struct place_ops ops = {remote_start, remote_stream, remote_pause, remote_cut,
                                         remote_drop,  NULL,          remote_permit};
    struct remote *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *r = (struct remote){.place = {&ops, *ev, arg}, .s = s, .n = ++s->remote_n};
    snprintf(r->node, sizeof r->node, "%s", node);
    if (order(r, sitemsg_write_open(r->n, spec), e)) {
        free(r);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&s->remotes, r, next);
    return &r->place;
}

// ---------------------------------------------------------------- what is told
typedef int (*teller)(struct remote *r, const json_t *msg, struct err *e);

static int told_opened(struct remote *r, const json_t *msg, struct err *e) {
    struct place_opened o;
    int32_t *tokens;
    if (sitemsg_read_opened(msg, &o, &tokens, e)) return -1;
    r->place.ev.opened(r->place.arg, &o);
    free(tokens);
    return 0;
}

static int told_text(struct remote *r, const json_t *msg, struct err *e) {
    struct sitemsg_text m;
    if (sitemsg_read_text(msg, &m, e)) return -1;
    r->place.ev.text(r->place.arg, m.text, m.len, m.tokens, m.id);
    return 0;
}

static int told_installed(struct remote *r, const json_t *msg, struct err *e) {
    struct sitemsg_installed m;
    if (sitemsg_read_installed(msg, &m, e)) return -1;
    uint64_t now = clock_mono_ns();
    bool known = m.age_us && m.age_us < now / 1000;
    r->place.ev.installed(r->place.arg, m.upto, m.bytes, known ? now - m.age_us * 1000 : 0, m.wire);
    return 0;
}

static int told_paused(struct remote *r, const json_t *msg, struct err *e) {
    struct sitemsg_paused m;
    if (sitemsg_read_paused(msg, &m, e)) return -1;
    r->place.ev.paused(r->place.arg, m.tokens, m.past);
    return 0;
}

static int told_cut(struct remote *r, const json_t *msg, bool arriving, struct err *e) {
    struct err why;
    if (sitemsg_read_error(msg, &why, e)) return -1;
    r->place.ev.cut(r->place.arg, arriving, &why);
    return 0;
}

static int told_broken(struct remote *r, const json_t *msg, struct err *e) { return told_cut(r, msg, false, e); }
static int told_starved(struct remote *r, const json_t *msg, struct err *e) { return told_cut(r, msg, true, e); }

static int told_ended(struct remote *r, const json_t *msg, struct err *e) {
    struct gen_result result;
    if (sitemsg_read_ended(msg, &result, e)) return -1;
    r->over = true;
    r->place.ev.ended(r->place.arg, &result);
    return 0;
}

static int told_failed(struct remote *r, const json_t *msg, struct err *e) {
    struct err why;
    if (sitemsg_read_error(msg, &why, e)) return -1;
    r->over = true;
    r->place.ev.failed(r->place.arg, &why);
    return 0;
}

static const struct {
    const char *type;
    teller tell;
} tellers[] = {
    {"site.opened", told_opened}, {"site.text", told_text},     {"site.installed", told_installed},
    {"site.paused", told_paused}, {"site.broken", told_broken}, {"site.starved", told_starved},
    {"site.ended", told_ended},   {"site.failed", told_failed},
};

static struct remote *find(struct serve *s, const struct peer *p, const json_t *msg) {
    uint64_t n = sitemsg_number(msg);
    struct remote *r;
    TAILQ_FOREACH(r, &s->remotes, next) {
        if (r->n == n && !strcmp(r->node, p->id)) return r;
    }
    return NULL;
}

bool remote_heard(struct serve *s, const struct peer *p, const char *type, const json_t *msg) {
    for (size_t i = 0; i < sizeof tellers / sizeof *tellers; i++) {
        if (strcmp(type, tellers[i].type)) continue;
        struct remote *r = find(s, p, msg);
        struct err why;
        if (!r || r->over || !tellers[i].tell(r, msg, &why)) return true; // a late word about a place that was dropped
        order_if_there(r, "site.drop");
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
