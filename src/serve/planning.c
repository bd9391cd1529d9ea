#include "serve/planning.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "serve/authority.h"
#include "serve/links.h"
#include "serve/node.h"
#include "serve/profiles.h"
#include "serve/told.h"
#include "serve/wire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// SIZES: classes of prompts, each up to four times as long as the one before. CHUNK: where a node does not say.
enum { SIZES = 16, REASON_BYTES = 1024, LIST_BYTES = 256, CHUNK = 512 };
static const double NEWEST = 0.25, BYTES_PER_TOKEN = 4, ANSWER_TOKENS = 256, GUESS = 1;

struct choice {
    enum plan_mode mode;
    char prefill[NODE_ID], decode[NODE_ID];
    bool made;
};

struct habit {                        // of one model
    char model[LIMIT_MODEL_NAME + 1]; // "" = free
    double bytes_per_token;           // 0 = not known
    double answer;                    // tokens of answers that ended by themselves; 0 = not known
    struct choice last[SIZES];
    uint64_t used_ns;
};

struct planner {
    struct habit habits[LIMIT_LOADED_MODELS];
};

struct planner *planner_new(struct err *e) {
    struct planner *p = calloc(1, sizeof *p);
    if (!p) err_set(e, ERR_INTERNAL, "out of memory");
    return p;
}

void planner_free(struct planner *p) { free(p); }

// ---------------------------------------------------------------- what is known of a model's requests
static struct habit *find(const struct serve *s, const char *model) {
    for (size_t i = 0; s->planner && i < LIMIT_LOADED_MODELS; i++)
        if (!strcmp(s->planner->habits[i].model, model)) return &s->planner->habits[i];
    return NULL;
}

// The longest unused one makes room.
static struct habit *habit_of(const struct serve *s, const char *model) {
    struct habit *h = find(s, model);
    for (size_t i = 0; !h && i < LIMIT_LOADED_MODELS; i++)
        if (!s->planner->habits[i].model[0]) h = &s->planner->habits[i];
    if (!h) {
        h = s->planner->habits;
        for (size_t i = 1; i < LIMIT_LOADED_MODELS; i++)
            if (s->planner->habits[i].used_ns < h->used_ns) h = &s->planner->habits[i];
        *h = (struct habit){.model = ""};
    }
    snprintf(h->model, sizeof h->model, "%s", model);
    h->used_ns = clock_mono_ns();
    return h;
}

static double blend(double old, double now) { return old > 0 ? old + (now - old) * NEWEST : now; }

void planning_learn(struct serve *s, const char *model, double prompt_bytes, const struct gen_result *r) {
    if (!s->planner || !model[0]) return;
    struct habit *h = habit_of(s, model);
    if (prompt_bytes > 0 && r->prompt_tokens > 0)
        h->bytes_per_token = blend(h->bytes_per_token, prompt_bytes / r->prompt_tokens);
    if (r->finish == FINISH_STOP && r->completion_tokens > 0) h->answer = blend(h->answer, r->completion_tokens);
}

static double content_bytes(const json_t *content) {
    double bytes = (double)json_string_length(content);
    const json_t *part;
    size_t i;
    json_array_foreach(content, i, part) bytes += (double)json_string_length(json_object_get(part, "text"));
    return bytes;
}

double planning_prompt_bytes(const struct gen_request *gen) {
    double bytes = 0;
    const json_t *message;
    size_t i;
    if (gen->kind == PROMPT_TOKENS) return 0;
    if (gen->kind == PROMPT_TEXT) return (double)json_string_length(gen->prompt);
    json_array_foreach(gen->prompt, i, message) bytes += content_bytes(json_object_get(message, "content"));
    return bytes;
}

double planning_bytes_to_tokens(const struct serve *s, const char *model, double bytes) {
    const struct habit *h = find(s, model);
    return fmax(1, ceil(bytes / (h && h->bytes_per_token > 0 ? h->bytes_per_token : BYTES_PER_TOKEN)));
}

double planning_prompt_tokens(const struct serve *s, const char *model, const struct gen_request *gen) {
    if (gen->kind == PROMPT_TOKENS) return fmax(1, (double)json_array_size(gen->prompt));
    return planning_bytes_to_tokens(s, model, planning_prompt_bytes(gen));
}

double planning_answer_tokens(const struct serve *s, const char *model, int64_t max_tokens, bool ignore_eos) {
    const struct habit *h = find(s, model);
    double usual = h && h->answer > 0 && !ignore_eos ? h->answer : 0;
    if (max_tokens <= 0) return usual > 0 ? ceil(usual) : ANSWER_TOKENS;
    return usual > 0 ? fmin((double)max_tokens, ceil(usual)) : (double)max_tokens;
}

// ---------------------------------------------------------------- the nodes
static enum plan_role role_of(const char *word) {
    if (!strcmp(word, "prime")) return PLAN_PRIME;
    return !strcmp(word, "edge") ? PLAN_EDGE : PLAN_AUTO;
}

// hashes: of the prompt's first tokens; NULL: they are not known.
static double cached_tokens(const struct serve *s, const struct planning_question *q, const char *id,
                            const uint64_t *hashes) {
    struct kept_marks marks;
    if (!hashes) return 0;
    if (!strcmp(id, node_self(s))) return q->kept;
    return profiles_kept(s, id, q->model, &marks) ? kept_shared(&marks, hashes, q->n_tokens) : 0;
}

static void add_node(struct serve *s, struct planning *p, const struct planning_question *q, const char *id,
                     const uint64_t *hashes) {
    struct profiled known;
    size_t at = p->input.n;
    if (at == PLAN_NODES || !profiles_known(s, id, q->model, &known) || !(known.error < GUESS)) return;
    struct plan_node *n = &p->nodes[at];
    snprintf(p->ids[at], sizeof p->ids[at], "%s", id);
    node_name(s, id, p->names[at], sizeof p->names[at]);
    p->export_s[at] = known.export_bytes_s;
    p->import_s[at] = known.import_bytes_s;
    p->rows_s[at] = profiled_rows_s(&known);
    p->rows[at] = known.rows;
    memcpy(p->wishes[at], known.wire, sizeof known.wire);
    if (!at) p->input.chunk = known.chunk > 0 ? known.chunk : CHUNK;
    *n = (struct plan_node){.name = p->names[at],
                            .profile = known.profile,
                            .role = role_of(cluster_role(s->cluster, id)),
                            .queued_tokens = known.queued_tokens,
                            .queued_prompts = known.queued_prompts,
                            .context_tokens = known.context_tokens,
                            .free_cells = known.free_cells,
                            .cached_tokens = cached_tokens(s, q, id, hashes),
                            .no_prefill = q->prefill && strcmp(q->prefill, id) != 0,
                            .hands_over = q->decode && strcmp(q->decode, id) != 0};
    if (n->no_prefill || n->hands_over) n->forbidden = "the request names another node";
    p->input.n++;
}

// This node first, then those whose model is the same: as here, or else as at the first of them.
static void add_nodes(struct serve *s, struct planning *p, const struct planning_question *q, const char *weights,
                      const uint64_t *hashes) {
    const struct peers *all = cluster_peers(s->cluster);
    char same[LIMIT_MODEL_NAME + 1]; // as long as what peers tell may be
    snprintf(same, sizeof same, "%s", weights);
    if (*weights) add_node(s, p, q, node_self(s), hashes);
    for (const struct peer *one = all ? peers_next(all, NULL) : NULL; one; one = peers_next(all, one)) {
        const json_t *told = one->up ? told_ready(cluster_models_of(s->cluster, one), q->model) : NULL;
        const char *theirs = json_string_value(json_object_get(told, "weights"));
        if (!theirs || !*theirs || (*same && strcmp(theirs, same) != 0)) continue;
        snprintf(same, sizeof same, "%s", theirs);
        add_node(s, p, q, one->id, hashes);
    }
}

// ---------------------------------------------------------------- the links
// How many times as much a link carries of rows of this type as of those in the cache.
static double packing(const struct kv_shape *shape, enum kv_dtype wire) {
    return wire == shape->dtype ? 1 : (double)kv_token_bytes(shape, shape->dtype) / (double)kv_token_bytes(shape, wire);
}

static enum kv_dtype wire_on(const struct serve *s, const struct planning *p, const struct planning_question *q,
                             size_t from, double bytes_s) {
    const char *const words[] = {q->wire, s->settings.kv_wire, p->wishes[from]};
    return wire_type(&p->rows[from], wire_wish(words, 3), p->rows_s[from], bytes_s);
}

// Rows leave a cache, travel and enter another one at the same time. 0 = not known.
static double slowest(double link, double out, double in) {
    if (out > 0) link = fmin(link, out);
    return in > 0 ? fmin(link, in) : link;
}

// Where rows do not stream - a state moves only after a pause, which is no plan yet - there is no link.
static void add_links(const struct serve *s, struct planning *p, const struct planning_question *q) {
    size_t n = p->input.n;
    links_among(s, (const char(*)[NODE_ID])p->ids, n, p->links);
    for (size_t i = 0; i < n * n; i++) {
        size_t from = i / n, to = i % n;
        struct link_cost *l = &p->links[i];
        bool streams = p->rows[from].layers > 0 && p->rows[to].layers > 0 && l->bytes_s > 0;
        p->wires[i] = wire_on(s, p, q, from, l->bytes_s);
        double more = packing(&p->rows[from], p->wires[i]);
        l->bytes_s = streams ? slowest(l->bytes_s * more, p->export_s[from], p->import_s[to]) : 0;
    }
}

// What travels, by the first node that says so.
static void add_rows(const struct serve *s, struct planning *p, const struct planning_question *q) {
    size_t i = 0;
    while (i < p->input.n && p->rows[i].layers < 1) i++;
    p->input.rows.layers = 1;
    if (i == p->input.n) return;
    p->input.rows.layers = p->rows[i].layers;
    p->input.rows.token_bytes = (double)kv_token_bytes(&p->rows[i], p->rows[i].dtype);
    add_links(s, p, q);
}

// NULL where the model is not ready on this node.
static const struct worker_info *info_here(const struct serve *s, const char *model, struct engine_status *status) {
    const struct model *here = models_find(s->models, model);
    if (!here) return NULL;
    engine_get_status(here->engine, status);
    return status->state == ENGINE_READY ? &status->info : NULL;
}

// ---------------------------------------------------------------- what the policy permits
static bool may(const struct authority_look *l, enum policy_phase phase, const struct policy_spot *spot,
                struct planning *p, size_t node) {
    struct policy_decision d;
    policy_view_decide(&l->view, phase, spot, &d);
    if (d.allow) return true;
    policy_decision_text(l->view.policy, &d, p->forbidden[node], PLANNING_REASON);
    p->nodes[node].forbidden = p->forbidden[node];
    return false;
}

static void forbid(struct serve *s, struct planning *p, const struct planning_question *q) {
    static const struct policy_subject nobody = {.n = 0};
    struct policy_subject who = q->who ? *q->who : nobody;
    struct authority_look l;
    struct policy_decision d;
    who.model = q->model;
    authority_look(s, &who, &l);
    for (size_t i = 0; i < p->input.n; i++) {
        struct policy_spot *here = &p->spots[i];
        authority_spot(&l, p->ids[i], here);
        p->nodes[i].no_prefill |= !may(&l, POLICY_PREFILL, here, p, i);
        p->nodes[i].no_decode |= !may(&l, POLICY_DECODE, here, p, i);
    }
    for (size_t i = 0; i < p->input.n * p->input.n; i++) {
        policy_view_decide_kv(&l.view, &p->spots[i / p->input.n], &p->spots[i % p->input.n], &d);
        if (!d.allow) p->links[i] = (struct link_cost){.bytes_s = 0};
    }
}

// ---------------------------------------------------------------- what was chosen for the like
static size_t size_class(double prompt) {
    double n = floor(log2(fmax(prompt, 1)) / 2);
    return n < SIZES ? (size_t)n : SIZES - 1;
}

static size_t node_index(const struct planning *p, const char *id) {
    size_t i = 0;
    while (i < p->input.n && strcmp(p->ids[i], id) != 0) i++;
    return i;
}

static void recall(const struct serve *s, struct planning *p, const struct planning_question *q) {
    const struct habit *h = q->prefill || q->decode ? NULL : find(s, q->model);
    const struct choice *c = h ? &h->last[size_class(q->prompt)] : NULL;
    if (!c || !c->made) return;
    p->last =
        (struct plan_place){.mode = c->mode, .prefill = node_index(p, c->prefill), .decode = node_index(p, c->decode)};
    if (p->last.prefill < p->input.n && p->last.decode < p->input.n) p->input.last = &p->last;
}

static void remember(const struct serve *s, const struct planning *p, const struct planning_question *q,
                     const struct plan *plan) {
    if (q->prefill || q->decode) return;
    struct choice *c = &habit_of(s, q->model)->last[size_class(q->prompt)];
    *c = (struct choice){.mode = plan->mode, .made = true};
    snprintf(c->prefill, sizeof c->prefill, "%s", p->ids[plan->prefill]);
    snprintf(c->decode, sizeof c->decode, "%s", p->ids[plan->decode]);
}

// ---------------------------------------------------------------- the question and its answer
static void list_once(json_t *seen, const char *name, struct buf *list) {
    char shown[LIMIT_MODEL_NAME + 1];
    text_escape(shown, sizeof shown, name);
    if (json_object_get(seen, shown) || json_object_set_new(seen, shown, json_true())) return;
    buf_printf(list, "%s%s", list->len ? " " : "", shown);
}

// Why nothing can be planned: nobody has the model, which names those that somebody has, or it was measured nowhere.
static void nobody(const struct serve *s, const char *model, struct err *e) {
    struct engine_status status;
    const struct peers *all = cluster_peers(s->cluster);
    json_t *seen = json_object();
    struct buf list;
    buf_init(&list, LIST_BYTES);
    for (const struct model *m = models_next(s->models, NULL); m; m = models_next(s->models, m))
        if (info_here(s, m->name, &status)) list_once(seen, m->name, &list);
    for (const struct peer *one = all ? peers_next(all, NULL) : NULL; one; one = peers_next(all, one)) {
        const json_t *models = one->up ? cluster_models_of(s->cluster, one) : NULL;
        for (size_t i = 0; i < json_array_size(models); i++) {
            const char *name = json_string_value(json_object_get(json_array_get(models, i), "name"));
            if (name && told_ready(models, name)) list_once(seen, name, &list);
        }
    }
    if (json_object_get(seen, model))
        err_set(e, ERR_NOT_FOUND, "'%s' has not been measured yet: see `nebulus profile --measure`", model);
    else
        err_set(e, ERR_NOT_FOUND, "no node has a model '%.64s' ready; known: %s", model,
                list.len ? buf_str(&list) : "none");
    buf_free(&list);
    json_decref(seen);
}

struct planning *planning_new(struct serve *s, const struct planning_question *q, struct err *e) {
    struct engine_status status;
    struct planning *p = s->planner ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        err_set(e, s->planner ? ERR_INTERNAL : ERR_NOT_FOUND, "%s",
                s->planner ? "out of memory" : "nothing is planned here: the setting plan is off");
        return NULL;
    }
    p->input = (struct plan_input){.nodes = p->nodes, .links = p->links, .prompt = q->prompt, .generate = q->generate};
    const struct worker_info *here = info_here(s, q->model, &status);
    uint64_t *hashes = q->n_tokens > 0 ? malloc((size_t)q->n_tokens * sizeof *hashes) : NULL;
    if (hashes) kept_hashes(q->tokens, q->n_tokens, hashes);
    add_nodes(s, p, q, here ? here->weights : "", hashes);
    free(hashes);
    if (!p->input.n) {
        free(p);
        nobody(s, q->model, e);
        return NULL;
    }
    add_rows(s, p, q);
    forbid(s, p, q);
    recall(s, p, q);
    return p;
}

static void tell(const struct planning *p, const struct plan *plan, struct trace_plan *out) {
    struct buf why;
    buf_init(&why, REASON_BYTES);
    *out = (struct trace_plan){.made = true,
                               .mode = plan_mode_name(plan->mode),
                               .waits = plan->waits,
                               .fetches = plan->fetch_s > 0,
                               .ttft_s = plan->ttft_s,
                               .prefill_s = plan->prefill_s,
                               .exposed_s = plan->exposed_s,
                               .decode_s = plan->decode_s,
                               .total_s = plan->total_s,
                               .prompt = p->input.prompt,
                               .generate = p->input.generate};
    snprintf(out->prefill, sizeof out->prefill, "%s", p->names[plan->prefill]);
    snprintf(out->decode, sizeof out->decode, "%s", p->names[plan->decode]);
    if (plan->prefill != plan->decode)
        snprintf(out->wire, sizeof out->wire, "%s", kv_dtype_name(p->wires[plan->prefill * p->input.n + plan->decode]));
    if (plan_explain(&p->input, plan, plan, &why)) buf_clear(&why);
    text_escape(out->reason, sizeof out->reason, buf_str(&why));
    buf_free(&why);
}

static bool is_planned(const struct planning *p, const char *id) { return node_index(p, id) < p->input.n; }

static int choose(struct serve *s, const struct planning *p, const struct planning_question *q, struct course_spec *out,
                  struct err *e) {
    struct plan plan;
    struct err why;
    if (plan_choose(&p->input, &plan, &why)) {
        if (why.code == ERR_DENIED && !q->prefill && !q->decode) {
            if (e) *e = why;
            return -1;
        }
        log_debug("'%s' is not planned: %s", q->model, why.msg);
        return 0; // it waits for room, or goes where it was told to
    }
    snprintf(out->prefill, sizeof out->prefill, "%s", p->ids[plan.prefill]);
    snprintf(out->decode, sizeof out->decode, "%s", p->ids[plan.decode]);
    tell(p, &plan, &out->plan);
    remember(s, p, q, &plan);
    return 0;
}

int planning_place(struct serve *s, const struct placement_wish *wish, struct course_spec *out, struct err *e) {
    struct err why;
    const char *usual = wish->prefill ? out->decode : out->prefill; // what nobody wished, if there is such
    if (!s->planner || !wish->gen || !out->model[0]) return 0;
    const struct planning_question q = {
        .model = out->model,
        .wire = out->wire,
        .prefill = wish->prefill ? out->prefill : NULL,
        .decode = wish->decode ? out->decode : NULL,
        .who = wish->who,
        .prompt = planning_prompt_tokens(s, out->model, wish->gen),
        .generate = planning_answer_tokens(s, out->model, wish->gen->max_tokens, wish->gen->ignore_eos),
        .tokens = wish->tokens,
        .n_tokens = wish->n_tokens,
        .kept = wish->kept};
    struct planning *p = planning_new(s, &q, &why);
    int rc = p && is_planned(p, usual) ? choose(s, p, &q, out, e) : 0;
    if (!wish->handover && out->plan.waits) out->zero_stall = false;
    free(p);
    return rc;
}
