#include "serve/witness.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/witness_internal.h"

#include <stdlib.h>
#include <string.h>

const char *witness_cluster(const struct witness *w) {
    const struct roster *r = cluster_roster(w->s->cluster);
    return r ? r->cluster : "";
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    own_tick(arg);
    mirrors_tick(arg);
    restore_tick(arg);
}

void witness_up(struct witness *w, const struct peer *p) {
    if (!w) return;
    own_up(w, p);
    peers_tell(w, p);
    mirrors_up(w, p);
}

static void on_piece(struct witness *w, const struct peer *p, const json_t *msg) {
    struct piece piece;
    struct err why;
    if (piece_read(msg, &piece, &why))
        log_warn("a piece of an audit log from node '%s' is refused: %s", p->name, why.msg);
    else if (!restore_heard(w, p, &piece) && !mirrors_heard(w, p, &piece))
        log_debug("node '%s' sent a piece of an audit log that nobody waits for", p->name);
}

bool witness_heard(struct witness *w, const struct peer *p, const char *type, const json_t *msg) {
    static const struct {
        const char *type;
        void (*take)(struct witness *w, const struct peer *p, const json_t *msg);
    } table[] = {{"audit.held", own_held},     {"audit.head", peers_head},       {"audit.cosigned", own_cosigned},
                 {"audit.want", readers_want}, {"audit.mirrored", own_mirrored}, {"audit.piece", on_piece}};
    for (size_t i = 0; w && i < sizeof table / sizeof *table; i++) {
        if (strcmp(type, table[i].type) != 0) continue;
        table[i].take(w, p, msg);
        return true;
    }
    return false;
}

// ---------------------------------------------------------------- what is shown
static double age_s(uint64_t since_wall) {
    uint64_t now = clock_wall_ns();
    return now > since_wall ? (double)(now - since_wall) / 1e9 : 0;
}

json_t *witness_json(const struct witness *w) {
    struct audit *a = w ? evidence_log(w->s) : NULL;
    struct err why = {.code = ERR_NONE};
    if (!w) return json_null();
    bool trouble = evidence_trouble(w->s, &why);
    bool known = a && !strcmp(audit_dir(a), w->log);
    uint64_t records = a ? audit_head(a, NULL, NULL) : 0, witnessed = known ? own_witnessed(w) : 0;
    uint64_t tail = records > witnessed ? records - witnessed : 0;
    size_t mirrors = 0;
    uint64_t mirrored = known ? own_reach(w, &mirrors) : 0;
    return json_pack("{s:s?,s:I,s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:b,s:o,s:s?}", "log", a ? audit_origin(a) : NULL,
                     "records", (json_int_t)records, "witnessed", (json_int_t)witnessed, "tail", (json_int_t)tail,
                     "tail_age_s", tail && known && w->tail_since_wall ? age_s(w->tail_since_wall) : 0.0, "witnesses",
                     (json_int_t)(known ? w->n : 0), "mirrored", (json_int_t)mirrored, "mirrors", (json_int_t)mirrors,
                     "mirror_bytes", (json_int_t)mirrors_bytes(w, NULL), "mirrors_full", mirrors_full(w), "restore",
                     restore_json(w), "trouble", trouble ? why.msg : NULL);
}

json_t *witness_peer_json(const struct witness *w, const char *node) {
    const struct held *h, *latest = NULL;
    const char *finding = NULL;
    char id[NODE_ID];
    uint64_t when = 0, cosigned = 0;
    if (!w) return json_null();
    for (size_t i = 0; i < w->n; i++) {
        if (!witnessed_node(w->list[i].key.name, id) || strcmp(id, node) != 0) continue;
        cosigned = w->list[i].head.size;
        when = w->list[i].when;
    }
    TAILQ_FOREACH(h, &w->held, next) {
        if (strcmp(h->node, node) != 0) continue;
        if (h->finding) finding = h->finding;
        if (!latest || strcmp(h->incarnation, latest->incarnation) > 0) latest = h;
    }
    return json_pack("{s:I,s:f,s:I,s:I,s:I,s:b,s:s?}", "cosigned", (json_int_t)cosigned, "age_s",
                     when ? age_s(when * NS_PER_S) : 0.0, "held", (json_int_t)(latest ? latest->head.size : 0),
                     "mirrored", (json_int_t)(latest ? latest->mirrored : 0), "mirror_bytes",
                     (json_int_t)mirrors_bytes(w, node), "mirror_full", latest && latest->mirror_full, "finding",
                     finding);
}

// ---------------------------------------------------------------- the whole
struct witness *witness_new(struct serve *s, const struct paths *p, struct err *e) {
    const struct timeval every = {.tv_sec = WITNESS_EVERY_MS / 1000};
    struct witness *w = calloc(1, sizeof *w);
    if (!w) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    w->s = s;
    TAILQ_INIT(&w->held);
    w->list = calloc(WITNESSES, sizeof *w->list);
    w->tick = event_new(s->base, -1, EV_PERSIST, on_tick, w);
    if (!w->list || !w->tick || event_add(w->tick, &every))
        err_set(e, ERR_INTERNAL, "out of memory");
    else if ((w->keeper = keeper_new(s->base, e)) && (w->mirrorer = keeper_new(s->base, e)) &&
             !path_join(w->audit, p->state, "audit", e) && !path_join(w->dir, w->audit, "witnessed", e) &&
             !readers_new(w, e) && !peers_load(w, e))
        return w;
    witness_free(w);
    return NULL;
}

void witness_free(struct witness *w) {
    if (!w) return;
    if (w->keeper) own_keep(w);
    keeper_free(w->keeper); // no callback comes any more
    keeper_free(w->mirrorer);
    if (w->tick) event_free(w->tick);
    readers_free(w);
    restore_close(w);
    peers_close(w);
    free(w->list);
    free(w);
}
