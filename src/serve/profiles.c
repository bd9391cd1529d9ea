#include "serve/profiles.h"
#include "base/clock.h"
#include "base/log.h"
#include "plan/fit.h"
#include "serve/node.h"
#include "serve/site.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Of one model that is or was loaded.
struct entry {
    char model[LIMIT_MODEL_NAME + 1]; // "" = free
    char weights[65];                 // what `fit` was made for
    struct fit fit;
    uint64_t known_ns, used_ns; // clock_mono_ns: of the latest sample; 0 = none
};

struct profiles {
    struct serve *s;
    struct entry entries[LIMIT_LOADED_MODELS];
};

struct profiles *profiles_new(struct serve *s, struct err *e) {
    struct profiles *p = calloc(1, sizeof *p);
    if (p)
        p->s = s;
    else
        err_set(e, ERR_INTERNAL, "out of memory");
    return p;
}

void profiles_free(struct profiles *p) { free(p); }

static void guess_of(const struct worker_info *info, struct profile *out) {
    fit_guess(out, (double)info->n_params, (double)info->model_bytes, (double)info->kv_bytes_per_token);
}

// The entry of a ready model, made where it has none; the longest unused one makes room.
static struct entry *entry_of(struct profiles *p, const char *model, const struct worker_info *info) {
    struct entry *found = p->entries;
    for (size_t i = 0; i < LIMIT_LOADED_MODELS; i++) {
        struct entry *one = &p->entries[i];
        if (!strcmp(one->model, model)) {
            found = one;
            break;
        }
        if (one->used_ns < found->used_ns) found = one;
    }
    if (strcmp(found->model, model) != 0 || strcmp(found->weights, info->weights) != 0) {
        struct profile guess;
        *found = (struct entry){.known_ns = 0};
        snprintf(found->model, sizeof found->model, "%s", model);
        snprintf(found->weights, sizeof found->weights, "%s", info->weights);
        guess_of(info, &guess);
        fit_init(&found->fit, &guess);
    }
    found->used_ns = clock_mono_ns();
    return found;
}

static bool known_here(const struct serve *s, const char *model, struct profiled *out) {
    const struct model *m = s->models ? models_find(s->models, model) : NULL;
    struct engine_status status = {.state = ENGINE_FAILED};
    if (m) engine_get_status(m->engine, &status);
    if (status.state != ENGINE_READY || !s->profiles) return false;
    const struct entry *one = entry_of(s->profiles, model, &status.info);
    *out = (struct profiled){.error = fit_error(&one->fit)};
    fit_profile(&one->fit, &out->profile);
    out->age_s = one->known_ns ? (double)(clock_mono_ns() - one->known_ns) / 1e9 : 0;
    int64_t total = status.stats.cells_total ? status.stats.cells_total : status.info.kv_cells;
    out->free_cells = total > status.stats.cells_used ? (double)(total - status.stats.cells_used) : 0;
    site_load(s, m, &out->queued_tokens, &out->context_tokens);
    return true;
}

bool profiles_known(const struct serve *s, const char *node_id, const char *model, struct profiled *out) {
    return node_is_self(s, node_id) && known_here(s, model, out);
}

void profiles_job(struct profiles *p, const struct model *m, const struct gen_result *r) {
    struct engine_status status;
    struct err why;
    struct fit_sample sample = {.tokens = r->prompt_tokens - r->cached_tokens,
                                .cached = r->cached_tokens,
                                .prefill_s = (double)r->prefill_ns / 1e9,
                                .context = r->prompt_tokens + 1,
                                .steps = r->completion_tokens - 1,
                                .decode_s = (double)r->decode_ns / 1e9};
    engine_get_status(m->engine, &status);
    if (status.state != ENGINE_READY || r->finish == FINISH_CANCELLED) return;
    if (sample.steps < 1) sample.steps = 0;
    struct entry *one = entry_of(p, m->name, &status.info);
    if (fit_correct(&one->fit, &sample, &why))
        log_debug("'%s': %s", m->name, why.msg);
    else
        one->known_ns = clock_mono_ns();
}
