#include "base/json.h"
#include "serve/node.h"
#include "serve/profiles_internal.h"

#include <stdio.h>
#include <string.h>

static const double lengths[] = {64, 512, 1024, 4096, 16384}; // tokens of prompts, and of contexts
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static json_t *speeds(const struct profile *p, bool decode) {
    json_t *list = json_array();
    for (size_t i = 0; i < LENGTHS; i++) {
        double n = lengths[i], seconds = decode ? decode_seconds(p, n, 1) : prefill_seconds(p, n, 0) / n;
        json_array_append_new(list, json_pack("{s:f, s:f}", decode ? "context" : "tokens", n, "tokens_s", 1 / seconds));
    }
    return list;
}

// Tokens of the longest sequence that is kept there.
static int32_t longest_kept(const struct serve *s, const char *node_id, const char *model) {
    struct kept_marks kept;
    int32_t most = 0;
    if (!profiles_kept(s, node_id, model, &kept)) return 0;
    for (int32_t i = 0; i < kept.n; i++)
        if (kept.list[i].tokens > most) most = kept.list[i].tokens;
    return most;
}

static json_t *shown(const struct serve *s, const char *node_id, const char *model) {
    struct profiled k;
    char node[128];
    if (!profiles_known(s, node_id, model, &k)) return NULL;
    const struct profile *p = &k.profile;
    node_name(s, node_id, node, sizeof node);
    json_t *costs =
        json_pack("{s:f, s:f, s:f, s:f, s:f}", "prefill_base", p->prefill_base, "prefill_token", p->prefill_token,
                  "prefill_pair", p->prefill_pair, "decode_base", p->decode_base, "decode_token", p->decode_token);
    return json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:b, s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:f, s:i, s:b}", "model",
                     model, "node", node, "node_id", node_id, "source",
                     k.emulated      ? "emulated"
                     : k.error < 1.0 ? "measured"
                                     : "guessed",
                     "age_s", k.age_s, "error", k.error, "emulated", k.emulated, "profile", costs, "prefill",
                     speeds(p, false), "decode", speeds(p, true), "queued_tokens", k.queued_tokens, "context_tokens",
                     k.context_tokens, "free_cells", k.free_cells, "export_bytes_s", k.export_bytes_s, "import_bytes_s",
                     k.import_bytes_s, "kept_tokens", (int)longest_kept(s, node_id, model), "measuring", false);
}

static void add_own(const struct serve *s, json_t *list) {
    struct engine_status status;
    for (const struct model *m = models_next(s->models, NULL); m; m = models_next(s->models, m)) {
        json_t *o = shown(s, node_self(s), m->name);
        if (!o || !profiles_ready(m, &status)) continue;
        const struct entry *one = profiles_entry(s->profiles, m, &status.info);
        json_object_set_new(o, "measuring", json_boolean(one->wanted));
        json_object_set_new(o, "jobs", json_integer((json_int_t)one->jobs));
        json_array_append_new(list, o);
    }
}

static void add_others(const struct serve *s, json_t *list) {
    struct peers *peers = cluster_peers(s->cluster);
    for (const struct peer *p = peers ? peers_next(peers, NULL) : NULL; p; p = peers_next(peers, p)) {
        const json_t *models = p->up ? cluster_models_of(s->cluster, p) : NULL;
        for (size_t i = 0; i < json_array_size(models); i++) {
            const char *name = json_string_value(json_object_get(json_array_get(models, i), "name"));
            json_t *o = name ? shown(s, p->id, name) : NULL;
            if (o) json_array_append_new(list, o);
        }
    }
}

void profiles_show(const struct call *c) {
    json_t *list = json_array();
    add_own(c->s, list);
    add_others(c->s, list);
    call_answer(c, json_pack("{s:i, s:o}", "v", 1, "profiles", list));
}

static int start(const struct serve *s, const char *name, size_t *n, struct err *e) {
    struct engine_status status;
    for (const struct model *m = models_next(s->models, NULL); m; m = models_next(s->models, m)) {
        if ((*name && strcmp(m->name, name) != 0) || !profiles_ready(m, &status)) continue;
        profiles_want(s->profiles, profiles_entry(s->profiles, m, &status.info));
        ++*n;
    }
    if (*n) return 0;
    err_param(e, "model", *name ? "no model '%.128s' is loaded here and ready: load it first" : "no model is loaded%s",
              name);
    if (e) e->code = ERR_NOT_FOUND;
    return -1;
}

void profiles_start(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    const char *name = "";
    size_t n = 0;
    json_t *body = call_body(c, &why);
    if (!body || json_get_string(body, "model", &name, &why) || start(c->s, name, &n, &why))
        call_fail(c, &why);
    else
        call_answer(c, json_pack("{s:i, s:I}", "v", 1, "measuring", (json_int_t)n));
    json_decref(body);
}
