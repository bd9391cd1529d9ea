#include "plan/plan.h"
#include "plan/estimate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double TOKENS_MAX = 1e9; // of a prompt, an answer or a cache

static bool is_tokens(double v, double min) { return isfinite(v) && v >= min && v <= TOKENS_MAX; }

int plan_input_check(const struct plan_input *in, struct err *e) {
    const struct plan_rows *r = &in->rows;
    if (!in->n) return err_set(e, ERR_INVALID, "there is no node to plan for");
    if (in->n > PLAN_NODES) return err_set(e, ERR_LIMIT, "at most %d nodes can be planned for", PLAN_NODES);
    if (!is_tokens(in->prompt, 1)) return err_param(e, "prompt", "a prompt of %g tokens makes no sense", in->prompt);
    if (!is_tokens(in->generate, 1)) return err_param(e, "gen", "%g generated tokens make no sense", in->generate);
    if (!is_tokens(in->chunk, 1)) return err_param(e, "chunk", "chunks of %g tokens make no sense", in->chunk);
    if (!is_tokens(r->token_bytes, 0) || !is_tokens(r->windowed_bytes, 0) || !is_tokens(r->window, 0) ||
        !is_tokens(r->hidden_bytes, 0) || r->layers < 1)
        return err_param(e, "rows", "the model's KV rows make no sense");
    if (in->last && (in->last->prefill >= in->n || in->last->decode >= in->n))
        return err_param(e, "last", "the last plan names a node that is not there");
    return 0;
}

// ---------------------------------------------------------------- what is permitted

enum hindrance { FREE, ABSURD_PROFILE, ABSURD_LOAD, FORBIDDEN, NO_ROOM };

static enum hindrance hindrance_of(const struct plan_input *in, size_t node, bool decode) {
    const struct plan_node *n = &in->nodes[node];
    if (profile_check(&n->profile, NULL)) return ABSURD_PROFILE;
    if (!is_tokens(n->queued_tokens, 0) || !is_tokens(n->queued_prompts, 0) || !is_tokens(n->context_tokens, 0) ||
        !is_tokens(n->cached_tokens, 0) || isnan(n->free_cells))
        return ABSURD_LOAD;
    if (decode ? n->no_decode || n->hands_over : n->no_prefill) return FORBIDDEN;
    return n->free_cells < in->prompt + in->generate ? NO_ROOM : FREE;
}

static const char *forbidden_part(const struct plan_node *n, bool decode) {
    if (n->no_prefill && (n->no_decode || n->hands_over)) return "take part";
    return decode ? "write answers" : "read prompts";
}

bool plan_hindrance(const struct plan_input *in, size_t node, bool decode, char *out, size_t size) {
    const struct plan_node *n = &in->nodes[node];
    struct err e;
    switch (hindrance_of(in, node, decode)) {
    case FREE: return false;
    case ABSURD_PROFILE:
        if (profile_check(&n->profile, &e)) snprintf(out, size, "%s", e.msg);
        return true;
    case ABSURD_LOAD: snprintf(out, size, "what it says of its load is absurd"); return true;
    case FORBIDDEN:
        snprintf(out, size, "may not %s%s%s", forbidden_part(n, decode), n->forbidden ? ": " : "",
                 n->forbidden ? n->forbidden : "");
        return true;
    default:
        snprintf(out, size, "has room for %.0f tokens, %.0f are needed", fmax(0, n->free_cells),
                 in->prompt + in->generate);
        return true;
    }
}

static bool can_send(const struct plan_input *in, size_t from, size_t to) {
    return in->links && !link_check(&in->links[from * in->n + to], NULL);
}

// ---------------------------------------------------------------- ranking

static double against(const struct plan_input *in, const struct plan *p) {
    double factor = p->mode == PLAN_LOCAL ? 1 : PLAN_SECOND_NODE;
    if (in->nodes[p->prefill].role == PLAN_EDGE) factor *= PLAN_AGAINST;
    if (in->nodes[p->decode].role == PLAN_PRIME) factor *= PLAN_AGAINST;
    bool same =
        in->last && in->last->mode == p->mode && in->last->prefill == p->prefill && in->last->decode == p->decode;
    return in->last && !same ? factor * PLAN_CHANGE : factor;
}

static bool is_better(const struct plan *a, const struct plan *b) {
    if ((a->mode == PLAN_TANDEM) != (b->mode == PLAN_TANDEM)) return b->mode == PLAN_TANDEM;
    return a->score < b->score;
}

struct ranking {
    const struct plan_input *in;
    struct plan *plans; // best first; borrowed
    size_t n, max;
};

static void offer(struct ranking *r, struct plan *p) {
    p->score = p->total_s * against(r->in, p);
    size_t at = r->n;
    if (r->n == r->max) {
        if (!r->max || !is_better(p, &r->plans[r->n - 1])) return;
        at--;
    } else
        r->n++;
    for (; at && is_better(p, &r->plans[at - 1]); at--) r->plans[at] = r->plans[at - 1];
    r->plans[at] = *p;
}

static void list_hindrances(const struct plan_input *in, size_t node, struct buf *list) {
    char why[160], first[160];
    bool reads = !plan_hindrance(in, node, false, first, sizeof first);
    bool writes = !plan_hindrance(in, node, true, why, sizeof why);
    const char *name = in->nodes[node].name;
    if (!reads) buf_printf(list, "; %s %s", name, first);
    if (!writes && (reads || strcmp(first, why))) buf_printf(list, "; %s %s", name, why);
}

static void list_gaps(const struct plan_input *in, struct buf *list) {
    for (size_t i = 0; i < in->n; i++)
        for (size_t k = 0; k < in->n; k++)
            if (i != k && hindrance_of(in, i, false) == FREE && hindrance_of(in, k, true) == FREE)
                buf_printf(list, "; no rows may go from %s to %s", in->nodes[i].name, in->nodes[k].name);
}

static void nothing_permitted(const struct plan_input *in, struct err *e) {
    struct buf list;
    bool room = false;
    buf_init(&list, sizeof e->msg);
    for (size_t i = 0; i < in->n; i++) {
        room = room || hindrance_of(in, i, false) == NO_ROOM || hindrance_of(in, i, true) == NO_ROOM;
        list_hindrances(in, i, &list);
    }
    list_gaps(in, &list); // one node may read and another one write, but nothing connects them
    err_set(e, room ? ERR_BUSY : ERR_DENIED, "no placement is permitted: %s",
            list.len ? buf_str(&list) + 2 : "no memory");
    buf_free(&list);
}

static size_t rank(const struct plan_input *in, struct plan *out, size_t max) {
    struct ranking r = {.in = in, .plans = out, .max = max};
    bool reads[PLAN_NODES], writes[PLAN_NODES];
    struct plan p;
    for (size_t i = 0; i < in->n; i++) {
        reads[i] = hindrance_of(in, i, false) == FREE;
        writes[i] = hindrance_of(in, i, true) == FREE;
        if (!reads[i] || !writes[i]) continue;
        estimate_local(in, i, &p);
        offer(&r, &p);
    }
    for (size_t i = 0; i < in->n; i++) {
        for (size_t k = 0; k < in->n; k++) {
            if (i == k || !reads[i] || !writes[k] || !can_send(in, i, k)) continue;
            estimate_disaggregated(in, i, k, &p);
            if (!writes[i] || p.handover < in->generate) offer(&r, &p); // else it is the local plan
            if (!in->tandem || !reads[k] || in->rows.layers < 2) continue;
            estimate_tandem(in, i, k, &p);
            offer(&r, &p);
        }
    }
    return r.n;
}

size_t plan_rank(const struct plan_input *in, struct plan *out, size_t max, struct err *e) {
    if (plan_input_check(in, e)) return 0;
    size_t n = rank(in, out, max);
    if (!n) nothing_permitted(in, e);
    return n;
}

int plan_choose(const struct plan_input *in, struct plan *out, struct err *e) {
    struct plan_input today = *in;
    today.tandem = false;
    return plan_rank(&today, out, 1, e) ? 0 : -1;
}

const char *plan_mode_name(enum plan_mode m) {
    static const char *const names[PLAN_MODES] = {"local", "disaggregated", "tandem"};
    return names[m];
}
