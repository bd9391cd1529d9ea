#include "serve/question.h"
#include "base/log.h"
#include "serve/cluster.h"
#include "serve/told.h"

#include <stdlib.h>
#include <string.h>

struct question {
    struct serve *s;
    char model[LIMIT_MODEL_NAME + 1];
    void (*done)(void *arg, const struct question_answer *a);
    void *arg;
    uint64_t id; // of the engine's request; 0 = it has ended
    int32_t *tokens, n;
};

static const struct model *ready_model(const struct serve *s, const char *name) {
    struct engine_status status;
    const struct model *m = *name ? models_find(s->models, name) : models_next(s->models, NULL);
    if (!m || (!*name && models_next(s->models, m))) return NULL;
    engine_get_status(m->engine, &status);
    return status.state == ENGINE_READY ? m : NULL;
}

bool question_matters(const struct serve *s, const char *model, char name[LIMIT_MODEL_NAME + 1]) {
    const struct model *here = s->planner ? ready_model(s, model) : NULL;
    const struct peers *peers = here ? cluster_peers(s->cluster) : NULL;
    if (!peers) return false;
    snprintf(name, LIMIT_MODEL_NAME + 1, "%s", here->name);
    for (const struct peer *p = peers_next(peers, NULL); p; p = peers_next(peers, p))
        if (p->up && told_ready(cluster_models_of(s->cluster, p), name)) return true;
    return false;
}

bool question_possible(const struct serve *s, const char *model, char name[LIMIT_MODEL_NAME + 1]) {
    const struct model *here = ready_model(s, model);
    if (here) snprintf(name, LIMIT_MODEL_NAME + 1, "%s", here->name);
    return here;
}

static void on_begin(void *arg, const struct gen_begin *b) {
    struct question *q = arg;
    if (!b->tokens || b->prompt_tokens < 1) return; // too many to be told
    q->tokens = malloc((size_t)b->prompt_tokens * sizeof *q->tokens);
    if (!q->tokens) return;
    q->n = b->prompt_tokens;
    memcpy(q->tokens, b->tokens, (size_t)q->n * sizeof *q->tokens);
}

static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t id) {
    (void)arg, (void)text, (void)len, (void)tokens, (void)id;
}

static void on_end(void *arg, const struct gen_result *r) {
    struct question *q = arg;
    q->id = 0;
    q->done(q->arg, &(struct question_answer){q->tokens, q->n, r->cached_tokens < q->n ? r->cached_tokens : q->n});
}

static void on_fail(void *arg, const struct err *why) {
    struct question *q = arg;
    q->id = 0;
    log_debug("'%s' does not say what a prompt is in tokens: %s", q->model, why->msg);
    q->done(q->arg, &(struct question_answer){.n = 0});
}

struct question *question_ask(struct serve *s, const char *name, const struct gen_request *gen,
                              void (*done)(void *arg, const struct question_answer *a), void *arg, struct err *e) {
    static const struct gen_events events = {.begin = on_begin, .text = on_text, .end = on_end, .fail = on_fail};
    const struct model *m = models_find(s->models, name);
    struct question *q = calloc(1, sizeof *q);
    struct gen_request asked = *gen; // borrows all of it
    asked.max_tokens = 0;
    asked.n_stop = 0;
    asked.echo_prompt = asked.hold = false;
    asked.bare = asked.show_tokens = true;
    if (!q) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *q = (struct question){.s = s, .done = done, .arg = arg};
    snprintf(q->model, sizeof q->model, "%s", name);
    if (!m) err_set(e, ERR_NOT_FOUND, "no model '%s' is loaded here", name);
    if (m && !engine_submit(m->engine, &asked, &events, q, &q->id, e)) return q;
    free(q);
    return NULL;
}

void question_drop(struct question *q) {
    if (!q) return;
    const struct model *m = q->id ? models_find(q->s->models, q->model) : NULL;
    if (m) engine_cancel(m->engine, q->id);
    free(q->tokens);
    free(q);
}
