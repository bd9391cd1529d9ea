#include "plan/estimate.h"

#include <math.h>

static double cached_tokens(const struct plan_input *in, size_t node) {
    return fmin(in->nodes[node].cached_tokens, in->prompt - 1); // the last token's logits are needed
}

// Of prompts the one goes first that would have been read first alone (engine/worker/batch.h): one that is shorter than
// those that wait are on average only lets the chunk pass that is being computed.
static double wait_seconds(const struct plan_input *in, size_t node, double fresh) {
    const struct plan_node *n = &in->nodes[node];
    double usual = n->queued_tokens / fmax(n->queued_prompts, 1);
    double before = fresh < usual ? fmin(n->queued_tokens, in->chunk) : n->queued_tokens;
    return before > 0 ? prefill_seconds(&n->profile, before, 0) : 0;
}

// Tokens first..first+count-1 of the answer, counted without the one that the prefill ends with.
static double answer_seconds(const struct plan_input *in, size_t node, double first, double count) {
    const struct plan_node *n = &in->nodes[node];
    return decode_seconds(&n->profile, n->context_tokens + in->prompt + first, count);
}

static double rows_bytes(const struct plan_rows *r, double tokens) {
    return tokens * r->token_bytes + fmin(tokens, r->window) * r->windowed_bytes;
}

static const struct link_cost *link_between(const struct plan_input *in, size_t from, size_t to) {
    return &in->links[from * in->n + to];
}

static void add_up(struct plan *p) {
    p->ttft_s = p->wait_s + p->prefill_s;
    p->total_s = p->ttft_s + p->decode_s;
}

void estimate_local(const struct plan_input *in, size_t node, struct plan *out) {
    double cached = cached_tokens(in, node);
    *out = (struct plan){.mode = PLAN_LOCAL, .prefill = node, .decode = node};
    out->wait_s = wait_seconds(in, node, in->prompt - cached);
    out->prefill_s = prefill_seconds(&in->nodes[node].profile, in->prompt - cached, cached);
    out->decode_s = answer_seconds(in, node, 0, in->generate - 1);
    add_up(out);
}

// ---------------------------------------------------------------- disaggregated

struct handover {
    const struct plan_input *in;
    size_t from, to;
    double exposed, rtt, steps;
    double best_s, best_k;
    double soon_s; // with the first moment at which it need not wait
};

// The first node writes k tokens more, then the second one goes on. Returns how long that takes.
static double handover_try(struct handover *h, double k) {
    k = fmin(fmax(k, 0), h->steps);
    double here = answer_seconds(h->in, h->from, 0, k);
    double all = k >= h->steps ? here : fmax(here, h->exposed) + h->rtt + answer_seconds(h->in, h->to, k, h->steps - k);
    if (all < h->best_s) {
        h->best_s = all;
        h->best_k = k;
    }
    return all;
}

// How many tokens (not a whole number) a node writes in some seconds: the positive root of a quadratic equation.
static double tokens_within(const struct profile *p, double context, double seconds) {
    double half = p->decode_token / 2, linear = p->decode_base + p->decode_token * (context - 0.5);
    double root = linear * linear + 4 * half * seconds;
    return 2 * seconds / (linear + sqrt(root)); // the form that does not cancel where `half` is tiny
}

// The best moment. While rows travel, writing costs nothing; afterwards each token costs what the nodes' speeds differ
// by, which is linear in the context: the minimum is at an end, or where both are equally fast.
static void handover_find(struct handover *h) {
    const struct plan_node *a = &h->in->nodes[h->from], *b = &h->in->nodes[h->to];
    double context = h->in->prompt + a->context_tokens;
    double free = floor(tokens_within(&a->profile, context, h->exposed));
    h->best_s = h->soon_s = INFINITY;
    if (a->no_decode) { // the first token comes with the prefill; more it may not write
        handover_try(h, 0);
        return;
    }
    handover_try(h, free);
    h->soon_s = handover_try(h, free + 1);
    if (a->hands_over) return;
    handover_try(h, h->steps);
    double slope = a->profile.decode_token - b->profile.decode_token;
    if (slope <= 0) return;
    double equal = (b->profile.decode_base + b->profile.decode_token * (h->in->prompt + b->context_tokens) -
                    a->profile.decode_base - a->profile.decode_token * context) /
                   slope;
    equal = fmax(floor(equal), free);
    handover_try(h, equal);
    handover_try(h, equal + 1);
}

// Rows before this position come from the decode node, where that is worth it; the prefill node's own otherwise.
static double known_tokens(const struct plan_input *in, size_t prefill, size_t decode) {
    double here = cached_tokens(in, prefill), there = cached_tokens(in, decode);
    return there - here > PLAN_FETCH && !link_check(link_between(in, decode, prefill), NULL) ? there : here;
}

static double fetch_seconds(const struct plan_input *in, size_t prefill, size_t decode, double known) {
    const struct link_cost *back = link_between(in, decode, prefill);
    double rows = known - cached_tokens(in, prefill);
    return rows > 0 ? back->rtt_s / 2 + rows_bytes(&in->rows, rows) / back->bytes_s : 0;
}

void estimate_disaggregated(const struct plan_input *in, size_t prefill, size_t decode, struct plan *out) {
    const struct link_cost *link = link_between(in, prefill, decode);
    double cached = known_tokens(in, prefill, decode), fresh = in->prompt - cached;
    double pieces = ceil(fresh / in->chunk) * in->rows.layers;
    double sent = rows_bytes(&in->rows, in->prompt - cached_tokens(in, decode)) / link->bytes_s;
    *out = (struct plan){.mode = PLAN_DISAGGREGATED, .prefill = prefill, .decode = decode};
    out->wait_s = wait_seconds(in, prefill, fresh);
    out->fetch_s = fetch_seconds(in, prefill, decode, cached);
    double compute = prefill_seconds(&in->nodes[prefill].profile, fresh, cached);
    out->prefill_s = out->fetch_s + compute;
    out->transfer_s = link->rtt_s / 2 + sent;
    out->exposed_s = link->rtt_s / 2 + exposed_seconds(compute, sent, pieces);
    struct handover h = {.in = in,
                         .from = prefill,
                         .to = decode,
                         .exposed = out->exposed_s,
                         .rtt = link->rtt_s,
                         .steps = in->generate - 1};
    handover_find(&h);
    out->decode_s = h.best_s;
    out->handover = h.best_k + 1;
    add_up(out);
    out->waits = h.best_k <= 0 && h.steps > 0 && out->total_s * PLAN_WAIT < out->ttft_s + h.soon_s;
}

// ---------------------------------------------------------------- tandem

// Three stages in a row (layers here, hidden states over the link, layers there), each in `pieces` equal parts.
static double pipeline_seconds(double first, double second, double third, double pieces) {
    return (first + second + third) / pieces + (1 - 1 / pieces) * fmax(first, fmax(second, third));
}

void estimate_tandem(const struct plan_input *in, size_t prefill, size_t decode, struct plan *out) {
    const struct link_cost *link = link_between(in, prefill, decode);
    double cached = fmin(cached_tokens(in, prefill), cached_tokens(in, decode)), fresh = in->prompt - cached;
    double here = prefill_seconds(&in->nodes[prefill].profile, fresh, cached);
    double there = prefill_seconds(&in->nodes[decode].profile, fresh, cached);
    double layers = in->rows.layers, chunks = ceil(fresh / in->chunk);
    double split = fmin(fmax(round(layers * there / (here + there)), 1), layers - 1), part = split / layers;
    double hidden = fresh * in->rows.hidden_bytes / link->bytes_s;
    double rows = rows_bytes(&in->rows, fresh) * part / link->bytes_s;
    *out = (struct plan){.mode = PLAN_TANDEM, .prefill = prefill, .decode = decode, .split = split};
    out->wait_s = fmax(wait_seconds(in, prefill, fresh), wait_seconds(in, decode, fresh));
    out->prefill_s = link->rtt_s / 2 + pipeline_seconds(here * part, hidden, there * (1 - part), chunks);
    out->transfer_s = link->rtt_s / 2 + hidden + rows;
    out->exposed_s = exposed_seconds(out->prefill_s, hidden + rows, chunks * split);
    out->decode_s = out->exposed_s + answer_seconds(in, decode, 0, in->generate - 1);
    add_up(out);
}
