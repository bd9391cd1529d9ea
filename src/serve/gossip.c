// What members tell each other: rosters, and what each of them has.
//   {"t":"roster","roster":{body,sig}}    {"t":"state","epoch":n,"digest":HEX,"models":[..],"links":{..}}
//   {"t":"left"}
#include "base/bytes.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/cluster_internal.h"
#include "serve/links.h"
#include "serve/profiles.h"
#include "serve/tickets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *model_json(const struct serve *serve, const struct model *m) {
    struct engine_status s;
    engine_get_status(m->engine, &s);
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", m->name, "state", engine_state_name(s.state), "contract",
                     s.info.contract, "weights", s.info.weights, "profile", profiles_tell(serve, m));
}

static json_t *models_json(const struct cluster *c) {
    json_t *list = json_array();
    if (!c->s->models) return list; // the daemon is stopping
    for (const struct model *m = models_next(c->s->models, NULL); m; m = models_next(c->s->models, m))
        json_array_append_new(list, model_json(c->s, m));
    return list;
}

json_t *gossip_about(const struct cluster *c) {
    char digest[2 * DIGEST_BYTES + 1] = "";
    if (c->roster) hex_encode(c->roster->digest, DIGEST_BYTES, digest);
    return json_pack("{s:s, s:s, s:I, s:s, s:o, s:o}", "version", NEBULUS_VERSION, "session",
                     tickets_session(c->s->tickets), "epoch", (json_int_t)(c->roster ? c->roster->epoch : 0), "digest",
                     digest, "models", models_json(c), "links", links_tell(c->s->links));
}

// ---------------------------------------------------------------- what comes in
static json_t *short_text(const json_t *o, const char *name) {
    const char *text = json_string_value(json_object_get(o, name));
    return json_string(text && strlen(text) <= LIMIT_MODEL_NAME ? text : "");
}

// Told once of a node.
static void refuse(struct note *note, const char *what, const struct err *why) {
    if (!note->absurd) log_warn("%s from node %.8s is refused: %s", what, note->id, why->msg);
    note->absurd = true;
}

static json_t *clean_profile(struct note *note, const json_t *said) {
    struct err why = {.code = ERR_NONE};
    json_t *clean = profiles_clean(said, &why);
    if (why.code) refuse(note, "a profile", &why);
    return clean;
}

static json_t *clean_links(struct note *note, const json_t *said) {
    struct err why = {.code = ERR_NONE};
    json_t *clean = links_clean(said, &why);
    if (why.code) refuse(note, "a list of links", &why);
    return clean;
}

// Only what is known, and no more than a node can have.
static json_t *clean_models(struct note *note, const json_t *list) {
    json_t *out = json_array();
    for (size_t i = 0; i < json_array_size(list) && i < LIMIT_LOADED_MODELS; i++) {
        const json_t *m = json_array_get(list, i);
        json_t *profile = clean_profile(note, json_object_get(m, "profile"));
        json_array_append_new(out, json_pack("{s:o, s:o, s:o, s:o, s:o}", "name", short_text(m, "name"), "state",
                                             short_text(m, "state"), "contract", short_text(m, "contract"), "weights",
                                             short_text(m, "weights"), "profile", profile));
    }
    return out;
}

static void take_about(struct note *note, const json_t *about) {
    const json_t *said = json_object_get(about, "version") ? about : note->about; // "state" does not repeat it
    const char *session = json_string_value(json_object_get(about, "session"));
    if (said == about) snprintf(note->session, sizeof note->session, "%s", session ? session : "");
    json_t *clean =
        json_pack("{s:o, s:I, s:o, s:o, s:o}", "version", short_text(said, "version"), "epoch",
                  json_integer_value(json_object_get(about, "epoch")), "digest", short_text(about, "digest"), "models",
                  clean_models(note, json_object_get(about, "models")), "links",
                  clean_links(note, json_object_get(about, "links")));
    json_decref(note->about);
    note->about = clean;
}

static const json_t *said_by(const struct cluster *c, const struct peer *p, const char *what) {
    for (size_t i = 0; i < ROSTER_NODES; i++)
        if (!strcmp(c->notes[i].id, p->id)) return json_object_get(c->notes[i].about, what);
    return NULL;
}

const json_t *cluster_models_of(const struct cluster *c, const struct peer *p) { return said_by(c, p, "models"); }
const json_t *cluster_links_of(const struct cluster *c, const struct peer *p) { return said_by(c, p, "links"); }

const char *cluster_session(const struct cluster *c, const char *id) {
    for (size_t i = 0; c && i < ROSTER_NODES; i++)
        if (!strcmp(c->notes[i].id, id)) return c->notes[i].about ? c->notes[i].session : "";
    return "";
}

static void send_roster(struct cluster *c, const struct peer *p) {
    struct err why;
    json_t *msg = json_pack("{s:s, s:o}", "t", "roster", "roster", roster_document(c->roster));
    if (msg && peers_send(c->peers, p, msg, &why)) log_debug("the roster was not sent to %s: %s", p->name, why.msg);
    json_decref(msg);
}

// Peers compare what they have first; whoever has the newer one sends it. Where two of one epoch differ both do.
static void compare(struct cluster *c, const struct peer *p, const json_t *about) {
    char ours[2 * DIGEST_BYTES + 1];
    const char *digest = json_string_value(json_object_get(about, "digest"));
    json_int_t epoch = json_integer_value(json_object_get(about, "epoch"));
    hex_encode(c->roster->digest, DIGEST_BYTES, ours);
    if (epoch > c->roster->epoch || (epoch == c->roster->epoch && digest && !strcmp(digest, ours))) return;
    send_roster(c, p);
}

static void take_roster(struct cluster *c, const struct peer *p, const json_t *msg) {
    struct err why = {.code = ERR_NONE};
    struct roster *r = roster_read(json_object_get(msg, "roster"), c->roster->root, &why);
    if (!r || membership_adopt(c, r, p, &why)) {
        if (why.code == ERR_BUSY)
            send_roster(c, p); // ours is newer
        else
            log_warn("a roster from %s is refused: %s", p->name, why.msg);
    }
}

static bool is_type(const json_t *msg, const char *type) {
    const char *t = json_string_value(json_object_get(msg, "t"));
    return t && !strcmp(t, type);
}

void gossip_up(struct cluster *c, const struct peer *p) {
    struct note *note = membership_note(c, p->id, true);
    if (note) take_about(note, p->hello);
    compare(c, p, p->hello);
}

void gossip_message(struct cluster *c, const struct peer *p, const json_t *msg) {
    struct note *note = membership_note(c, p->id, true);
    if (is_type(msg, "roster"))
        take_roster(c, p, msg);
    else if (is_type(msg, "left")) {
        log_info("node '%s' has left the cluster", p->name);
        if (membership_left(c, p->id)) log_warn("node '%s' will be dialled again after a restart", p->name);
    } else if (is_type(msg, "state")) {
        if (note) take_about(note, msg);
        compare(c, p, msg);
    } else if (c->ev.message)
        c->ev.message(c->arg, p, msg);
}

// ---------------------------------------------------------------- what goes out
static void send_to_all(struct cluster *c, const json_t *msg) {
    struct err why;
    for (const struct peer *p = peers_next(c->peers, NULL); p; p = peers_next(c->peers, p))
        if (p->up && peers_send(c->peers, p, msg, &why)) log_debug("%s was not told: %s", p->name, why.msg);
}

void gossip_roster(struct cluster *c, const struct peer *from) {
    for (const struct peer *p = peers_next(c->peers, NULL); p; p = peers_next(c->peers, p))
        if (p->up && p != from) send_roster(c, p);
}

void gossip_state(struct cluster *c) {
    json_t *state = gossip_about(c);
    if (state && !json_object_set_new(state, "t", json_string("state")) && !json_object_del(state, "version") &&
        !json_object_del(state, "session"))
        send_to_all(c, state);
    json_decref(state);
}

void gossip_changes(struct cluster *c) {
    json_t *both = json_pack("[o, o]", models_json(c), links_tell(c->s->links));
    char *now = both ? json_text(both) : NULL;
    bool same = now && c->told && !strcmp(now, c->told);
    if (now && !same) {
        gossip_state(c);
        free(c->told);
        c->told = now;
        now = NULL;
    }
    free(now);
    json_decref(both);
}

void gossip_left(struct cluster *c) {
    json_t *msg = json_pack("{s:s}", "t", "left");
    if (msg) send_to_all(c, msg);
    json_decref(msg);
}
