#include "base/clock.h"
#include "base/log.h"
#include "serve/node.h"
#include "serve/profiles_internal.h"
#include "serve/site.h"
#include "serve/told.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t SAVE_NS = 60 * NS_PER_S; // jobs change a profile often
static const double EMULATED_ERROR = 0.05;     // of one that is known before anything was measured

struct profiles *profiles_new(struct serve *s, const struct paths *paths, struct err *e) {
    struct profiles *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    p->s = s;
    profiles_machine(p->machine);
    if (!path_join(p->dir, paths->state, "profiles", e) && !profiles_measure_init(p, e)) return p;
    profiles_free(p);
    return NULL;
}

void profiles_free(struct profiles *p) {
    if (!p) return;
    profiles_measure_end(p);
    for (size_t i = 0; i < LIMIT_LOADED_MODELS; i++)
        if (p->entries[i].changed) profiles_save(p, &p->entries[i]);
    free(p);
}

// ---------------------------------------------------------------- this node's models
bool profiles_ready(const struct model *m, struct engine_status *out) {
    *out = (struct engine_status){.state = ENGINE_FAILED};
    if (m) engine_get_status(m->engine, out);
    return out->state == ENGINE_READY;
}

// What an emulated machine's times follow.
static bool emulated_costs(const struct worker_info *info, struct profile *out) {
    const double *c = info->emulated_costs;
    struct err why;
    *out = (struct profile){c[0], c[1], c[2], c[3], c[4]};
    return info->emulated[0] && !profile_check(out, &why);
}

static void begin(struct profiles *p, struct entry *one, const char *model, const char *key,
                  const struct worker_info *info) {
    struct profile guess;
    if (one->changed) profiles_save(p, one);
    *one = (struct entry){.known_s = 0};
    snprintf(one->model, sizeof one->model, "%s", model);
    snprintf(one->key, sizeof one->key, "%s", key);
    bool paced = emulated_costs(info, &guess);
    if (!paced) fit_guess(&guess, (double)info->n_params, (double)info->model_bytes, (double)info->kv_bytes_per_token);
    fit_init(&one->fit, &guess);
    if (profiles_read(p, one, &guess)) return;
    if (paced) { // nothing is to be measured
        fit_resume(&one->fit, &guess, &guess, EMULATED_ERROR);
        one->known_s = clock_wall_ns() / NS_PER_S;
    } else if (!strcmp(p->s->settings.profile, "on"))
        profiles_want(p, one);
}

struct entry *profiles_entry(struct profiles *p, const struct model *m, const struct worker_info *info) {
    struct entry *found = p->entries;
    char key[PROFILE_KEY];
    for (size_t i = 0; i < LIMIT_LOADED_MODELS; i++) {
        struct entry *one = &p->entries[i];
        if (!strcmp(one->model, m->name)) {
            found = one;
            break;
        }
        if (one->used_ns < found->used_ns) found = one;
    }
    profiles_key(p, m, info, key);
    if (strcmp(found->model, m->name) != 0 || strcmp(found->key, key) != 0) begin(p, found, m->name, key, info);
    found->used_ns = clock_mono_ns();
    return found;
}

double profiles_age_s(const struct entry *one) {
    uint64_t now = clock_wall_ns() / NS_PER_S;
    return one->known_s && now > one->known_s ? (double)(now - one->known_s) : 0;
}

// Tokens that a prompt has made of the time since then, about.
static double tokens_read(const struct profile *p, uint64_t since_ns) {
    double seconds = since_ns ? (double)(clock_mono_ns() - since_ns) / 1e9 : 0;
    return seconds * PROFILES_ROWS / prefill_seconds(p, PROFILES_ROWS, 0);
}

static bool known_here(const struct serve *s, const struct model *m, struct profiled *out) {
    struct engine_status status;
    if (!s->profiles || !profiles_ready(m, &status)) return false;
    const struct entry *one = profiles_entry(s->profiles, m, &status.info);
    *out = (struct profiled){
        .error = one->known_s ? fit_error(&one->fit) : 1, .age_s = profiles_age_s(one), .seen = one->known_s > 0};
    out->emulated = status.info.emulated[0];
    out->export_bytes_s = fmax(0, (double)status.info.export_bytes_s);
    out->import_bytes_s = fmax(0, (double)status.info.import_bytes_s);
    if (status.info.kv.form == KV_ROWS) out->rows = status.info.kv;
    out->chunk = status.info.chunk;
    snprintf(out->wire, sizeof out->wire, "%.7s", s->settings.kv_wire);
    fit_profile(&one->fit, &out->profile);
    int64_t total = status.stats.cells_total ? status.stats.cells_total : status.info.kv_cells;
    out->free_cells = total > status.stats.cells_used ? (double)(total - status.stats.cells_used) : 0;
    struct site_load load;
    site_load(s, m, &load);
    out->queued_tokens = fmax(0, load.queued - tokens_read(&out->profile, load.since_ns));
    out->queued_prompts = load.prompts;
    out->context_tokens = load.context;
    return true;
}

static bool known_there(const struct serve *s, const char *node_id, const char *model, struct profiled *out) {
    const struct peer *peer = cluster_find(s->cluster, node_id);
    const json_t *told = peer ? told_ready(cluster_models_of(s->cluster, peer), model) : NULL;
    struct err why;
    return told && !profiles_take(json_object_get(told, "profile"), out, &why);
}

bool profiles_kept(const struct serve *s, const char *node_id, const char *model, struct kept_marks *out) {
    const struct model *here = node_is_self(s, node_id) && s->models ? models_find(s->models, model) : NULL;
    const struct peer *peer = here ? NULL : cluster_find(s->cluster, node_id);
    const json_t *told = peer ? told_ready(cluster_models_of(s->cluster, peer), model) : NULL;
    struct err why;
    if (here) *out = *engine_kept(here->engine);
    if (here) return true;
    return told && !kept_decode(json_object_get(json_object_get(told, "profile"), "kept"), out, &why);
}

bool profiles_known(const struct serve *s, const char *node_id, const char *model, struct profiled *out) {
    if (!node_is_self(s, node_id)) return known_there(s, node_id, model, out);
    return s->models && known_here(s, models_find(s->models, model), out);
}

double profiled_rows_s(const struct profiled *known) {
    return known->seen ? PROFILES_ROWS / prefill_seconds(&known->profile, PROFILES_ROWS, 0) : 0;
}

double profiles_rows_s(const struct serve *s, const char *node_id, const char *model) {
    struct profiled known;
    return profiles_known(s, node_id, model, &known) ? profiled_rows_s(&known) : 0;
}

void profiles_job(struct profiles *p, const struct model *m, const struct fit_sample *seen) {
    struct engine_status status;
    struct err why;
    if (!p || !profiles_ready(m, &status)) return;
    struct entry *one = profiles_entry(p, m, &status.info);
    if (fit_correct(&one->fit, seen, &why)) {
        log_debug("'%s': %s", m->name, why.msg);
        return;
    }
    one->known_s = clock_wall_ns() / NS_PER_S;
    one->jobs++;
    one->changed = true;
    if (clock_mono_ns() - one->saved_ns >= SAVE_NS) profiles_save(p, one);
}
