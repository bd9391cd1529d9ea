// The planner against the published table, against an oracle that tries everything token by token, and its properties
// on thousands of random clusters.
#include "plan/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 6, ROUNDS = 4000 };

// ---------------------------------------------------------------- random clusters
struct world {
    struct plan_node nodes[MOST];
    struct link_cost links[MOST * MOST];
    struct plan_input in;
    char names[MOST][24];
};

static uint64_t seed;

static double uniform(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) / 9007199254740992.0;
}

static double spread(double min, double max) { return min * pow(max / min, uniform()); } // even in the logarithm

static bool sometimes(double p) { return uniform() < p; }

static void random_node(struct plan_node *n, const char *name) {
    *n = (struct plan_node){.name = name,
                            .profile = {.prefill_base = spread(1e-3, 0.3),
                                        .prefill_token = spread(1e-5, 1e-2),
                                        .prefill_pair = spread(1e-10, 1e-6),
                                        .decode_base = spread(1e-3, 0.2),
                                        .decode_token = spread(1e-8, 1e-5)},
                            .free_cells = sometimes(0.9) ? 1e6 : spread(10, 1e4),
                            .no_prefill = sometimes(0.1),
                            .no_decode = sometimes(0.1)};
    if (sometimes(0.3)) { // nodes whose speeds cross while the context grows
        n->profile.decode_base = spread(0.0100, 0.0102);
        n->profile.decode_token = spread(1e-7, 1e-4);
    }
    if (sometimes(0.3)) n->queued_tokens = floor(spread(1, 1e4)), n->queued_prompts = floor(uniform() * 4);
    if (sometimes(0.3)) n->context_tokens = floor(spread(1, 1e5));
    if (sometimes(0.3)) n->cached_tokens = floor(spread(1, 1e4));
}

static void random_world(struct world *w, uint64_t s) {
    memset(w, 0, sizeof *w);
    seed = s * 0x9e3779b97f4a7c15u + 1;
    w->in = (struct plan_input){
        .nodes = w->nodes,
        .n = 1 + (size_t)(uniform() * MOST),
        .links = w->links,
        .rows = {.token_bytes = spread(1e3, 1e6), .hidden_bytes = 8192, .layers = 1 + (int)(uniform() * 40)},
        .prompt = floor(spread(1, 2e4)),
        .generate = floor(spread(1, 100)),
        .chunk = 512};
    if (sometimes(0.2)) w->in.rows.windowed_bytes = spread(1e3, 1e6), w->in.rows.window = 128;
    for (size_t i = 0; i < w->in.n; i++) {
        snprintf(w->names[i], sizeof w->names[i], "n%zu", i);
        random_node(&w->nodes[i], w->names[i]);
        for (size_t k = 0; k < w->in.n; k++)
            if (sometimes(0.9))
                w->links[i * w->in.n + k] =
                    (struct link_cost){.bytes_s = spread(1e6, 1e10), .rtt_s = spread(1e-5, 0.1)};
    }
}

// ---------------------------------------------------------------- the oracle: nothing in closed form
static double oracle_prefill(const struct plan_node *n, double tokens, double cached) {
    double s = n->profile.prefill_base;
    for (double i = 0; i < tokens; i++) s += n->profile.prefill_token + n->profile.prefill_pair * (cached + i + 0.5);
    return s;
}

static double oracle_step(const struct plan_node *n, double position) {
    return n->profile.decode_base + n->profile.decode_token * (n->context_tokens + position);
}

static double oracle_cached(const struct plan_input *in, size_t node) {
    return fmin(in->nodes[node].cached_tokens, in->prompt - 1);
}

static double oracle_wait(const struct plan_input *in, size_t node, double fresh) {
    const struct plan_node *n = &in->nodes[node];
    bool overtakes = fresh * fmax(1, n->queued_prompts) < n->queued_tokens && n->queued_tokens > in->chunk;
    return n->queued_tokens > 0 ? oracle_prefill(n, overtakes ? in->chunk : n->queued_tokens, 0) : 0;
}

static double oracle_reading(const struct plan_input *in, size_t node) {
    double cached = oracle_cached(in, node);
    return oracle_wait(in, node, in->prompt - cached) + oracle_prefill(&in->nodes[node], in->prompt - cached, cached);
}

static double oracle_bytes(const struct plan_input *in, double rows) {
    double bytes = 0;
    for (double i = 0; i < rows; i++)
        bytes += in->rows.token_bytes + (i < in->rows.window ? in->rows.windowed_bytes : 0);
    return bytes;
}

// Rows that a has, or gets from b first; and until when.
static double oracle_known(const struct plan_input *in, size_t a, size_t b, double *fetched_s) {
    const struct link_cost *back = &in->links[b * in->n + a];
    double here = oracle_cached(in, a), there = oracle_cached(in, b);
    *fetched_s = 0;
    if (there - here <= 64 || !(back->bytes_s > 0)) return here;
    *fetched_s = back->rtt_s / 2 + oracle_bytes(in, there - here) / back->bytes_s;
    return there;
}

static double oracle_pair_reading(const struct plan_input *in, size_t a, size_t b) {
    double fetched_s, cached = oracle_known(in, a, b, &fetched_s);
    return oracle_wait(in, a, in->prompt - cached) + fetched_s +
           oracle_prefill(&in->nodes[a], in->prompt - cached, cached);
}

static double oracle_local(const struct plan_input *in, size_t node) {
    double s = oracle_reading(in, node);
    for (double i = 0; i < in->generate - 1; i++) s += oracle_step(&in->nodes[node], in->prompt + i);
    return s;
}

// When the last row is there, counted from the prefill's end.
static double oracle_exposed(const struct plan_input *in, size_t a, size_t b, const struct link_cost *l) {
    double fetched_s, cached = oracle_known(in, a, b, &fetched_s);
    double compute = oracle_prefill(&in->nodes[a], in->prompt - cached, cached), arrived = 0;
    double bytes = oracle_bytes(in, in->prompt - oracle_cached(in, b));
    int pieces = (int)ceil((in->prompt - cached) / in->chunk) * in->rows.layers;
    for (int i = 1; i <= pieces; i++) arrived = fmax(arrived, compute * i / pieces) + bytes / pieces / l->bytes_s;
    return arrived - compute + l->rtt_s / 2;
}

// Without a hand-over there is no pair: INFINITY.
static double oracle_pair(const struct plan_input *in, size_t a, size_t b) {
    const struct link_cost *l = &in->links[a * in->n + b];
    double exposed = oracle_exposed(in, a, b, l), best = INFINITY, here = 0;
    double rest[128] = {0}; // rest[k]: the tokens after k, written there
    int steps = (int)in->generate - 1, last = in->nodes[a].no_decode ? 0 : steps, handover = 0;
    for (int k = steps - 1; k >= 0; k--) rest[k] = rest[k + 1] + oracle_step(&in->nodes[b], in->prompt + k);
    for (int k = 0; k <= last; k++) {
        double all = k < steps ? fmax(here, exposed) + l->rtt_s + rest[k] : here;
        if (all < best) {
            best = all;
            handover = k;
        }
        here += oracle_step(&in->nodes[a], in->prompt + k);
    }
    return handover == steps && !in->nodes[a].no_decode ? INFINITY : oracle_pair_reading(in, a, b) + best;
}

static bool oracle_may(const struct plan_input *in, size_t node, bool decode) {
    const struct plan_node *n = &in->nodes[node];
    return !(decode ? n->no_decode : n->no_prefill) && n->free_cells >= in->prompt + in->generate;
}

// The least score of all permitted placements; INFINITY where there is none.
static double oracle_best(const struct plan_input *in) {
    double best = INFINITY;
    for (size_t i = 0; i < in->n; i++) {
        for (size_t k = 0; k < in->n; k++) {
            if (!oracle_may(in, i, false) || !oracle_may(in, k, true)) continue;
            if (i != k && !(in->links[i * in->n + k].bytes_s > 0)) continue;
            double score = i == k ? oracle_local(in, i) : 1.01 * oracle_pair(in, i, k);
            if (in->nodes[i].role == PLAN_EDGE) score *= 1.1;
            if (in->nodes[k].role == PLAN_PRIME) score *= 1.1;
            if (score < best) best = score;
        }
    }
    return best;
}

// ---------------------------------------------------------------- tests
static void agrees_with_the_oracle(void **state) {
    struct world w;
    int pairs = 0, none = 0, fetched = 0, awaited = 0;
    (void)state;
    for (uint64_t s = 0; s < ROUNDS / 4; s++) {
        struct plan p;
        struct err e = {.code = ERR_NONE};
        random_world(&w, s);
        for (size_t i = 0; i < w.in.n; i++) w.nodes[i].role = (enum plan_role)(uniform() * 3);
        double best = oracle_best(&w.in);
        if (plan_choose(&w.in, &p, &e)) {
            none++;
            if (!isinf(best)) fail_msg("seed %llu: %s", (unsigned long long)s, e.msg);
            continue;
        }
        pairs += p.mode == PLAN_DISAGGREGATED;
        if (!(fabs(p.score - best) <= 1e-6 * best))
            fail_msg("seed %llu: score %.9g, the oracle says %.9g", (unsigned long long)s, p.score, best);
        double total = p.mode == PLAN_LOCAL ? oracle_local(&w.in, p.prefill) : oracle_pair(&w.in, p.prefill, p.decode);
        assert_true(fabs(p.total_s - total) <= 1e-6 * total);
        double reading =
            p.mode == PLAN_LOCAL ? oracle_reading(&w.in, p.prefill) : oracle_pair_reading(&w.in, p.prefill, p.decode);
        assert_true(fabs(p.ttft_s - reading) <= 1e-6 * p.ttft_s);
        fetched += p.fetch_s > 0;
        awaited += p.waits;
        if (p.waits) assert_true(p.handover == 1);
    }
    assert_true(pairs > ROUNDS / 40); // the cases are not all of one kind
    assert_true(none > 0 && fetched > 10 && awaited > 10);
}

static void never_a_forbidden_node(void **state) {
    struct world w;
    struct plan plans[2 * MOST * MOST];
    (void)state;
    for (uint64_t s = 0; s < ROUNDS; s++) {
        random_world(&w, s);
        w.in.tandem = sometimes(0.5);
        size_t bad = (size_t)(uniform() * (double)w.in.n);
        w.nodes[bad].profile.decode_base = sometimes(0.5) ? NAN : -1;
        size_t n = plan_rank(&w.in, plans, sizeof plans / sizeof *plans, NULL);
        for (size_t i = 0; i < n; i++) {
            assert_true(oracle_may(&w.in, plans[i].prefill, false));
            assert_true(oracle_may(&w.in, plans[i].decode, true));
            assert_true(plans[i].prefill != bad && plans[i].decode != bad);
            assert_true((plans[i].mode == PLAN_LOCAL) == (plans[i].prefill == plans[i].decode));
            if (plans[i].mode != PLAN_LOCAL)
                assert_true(w.links[plans[i].prefill * w.in.n + plans[i].decode].bytes_s > 0);
            assert_true(isfinite(plans[i].total_s) && plans[i].total_s > 0);
            assert_true(plans[i].exposed_s <= plans[i].transfer_s + 1e-9);
        }
    }
}

static void ranked_best_first(void **state) {
    struct world w;
    struct plan all[2 * MOST * MOST], few[3];
    (void)state;
    for (uint64_t s = 0; s < ROUNDS; s++) {
        random_world(&w, s);
        w.in.tandem = true;
        size_t n = plan_rank(&w.in, all, sizeof all / sizeof *all, NULL), m = plan_rank(&w.in, few, 3, NULL);
        assert_int_equal(m, n < 3 ? n : 3);
        for (size_t i = 1; i < n; i++) {
            assert_true(all[i].mode == PLAN_TANDEM || all[i - 1].mode != PLAN_TANDEM);
            if ((all[i].mode == PLAN_TANDEM) == (all[i - 1].mode == PLAN_TANDEM))
                assert_true(all[i - 1].score <= all[i].score);
        }
        for (size_t i = 0; i < m; i++) assert_memory_equal(&few[i], &all[i], sizeof few[i]);
    }
}

// A node or link that gets faster never makes the choice slower (roles apart, for which up to a tenth is given away).
static void faster_is_never_slower(void **state) {
    struct world w;
    (void)state;
    for (uint64_t s = 0; s < ROUNDS; s++) {
        struct plan before, after;
        random_world(&w, s);
        if (plan_choose(&w.in, &before, NULL)) continue;
        size_t node = (size_t)(uniform() * (double)w.in.n);
        struct profile *p = &w.nodes[node].profile;
        double *members[] = {&p->prefill_base, &p->prefill_token, &p->prefill_pair, &p->decode_base, &p->decode_token};
        if (sometimes(0.7))
            *members[(size_t)(uniform() * 5)] *= uniform() * 0.99 + 0.005;
        else
            for (size_t k = 0; k < w.in.n; k++) w.links[node * w.in.n + k].bytes_s *= 1 + uniform();
        assert_int_equal(plan_choose(&w.in, &after, NULL), 0);
        if (!(after.score <= before.score * (1 + 1e-12)))
            fail_msg("seed %llu: %.9g became %.9g", (unsigned long long)s, before.score, after.score);
        assert_true(after.total_s <= before.total_s * PLAN_SECOND_NODE * (1 + 1e-12));
    }
}

// As designed: a pair is never slower than its prefill node alone.
static void a_pair_never_hurts(void **state) {
    struct world w;
    struct plan plans[2 * MOST * MOST];
    (void)state;
    for (uint64_t s = 0; s < ROUNDS; s++) {
        random_world(&w, s);
        size_t n = plan_rank(&w.in, plans, sizeof plans / sizeof *plans, NULL);
        for (size_t i = 0; i < n; i++) {
            if (plans[i].mode != PLAN_DISAGGREGATED || !oracle_may(&w.in, plans[i].prefill, true)) continue;
            double alone = oracle_local(&w.in, plans[i].prefill);
            assert_true(plans[i].total_s - plans[i].fetch_s <= alone * (1 + 1e-9));
        }
    }
}

// ---------------------------------------------------------------- the published pair
enum { SPARK, MAC };

static void catalogue_world(struct world *w, double prompt, double generate, const char *link) {
    static const char *const names[] = {"dgx-spark", "m3-ultra"};
    struct plan_shape s;
    struct err e;
    const struct link_kind *l = link_kind_find(link, &e);
    memset(w, 0, sizeof *w);
    assert_non_null(l);
    assert_int_equal(plan_shape_find("llama-3.1-8b", &s, &e), 0);
    w->in = (struct plan_input){.nodes = w->nodes,
                                .n = 2,
                                .links = w->links,
                                .rows = {.token_bytes = plan_shape_kv_bytes(&s, DTYPE_F16, 1),
                                         .hidden_bytes = s.embd * 2.0,
                                         .layers = s.layers},
                                .prompt = prompt,
                                .generate = generate,
                                .chunk = 512};
    for (size_t i = 0; i < 2; i++) {
        w->nodes[i] = (struct plan_node){.name = names[i], .free_cells = 1e6};
        profile_of_device(&w->nodes[i].profile, device_find(names[i], &e), &s, DTYPE_F16);
    }
    for (size_t i = 0; i < 4; i++) w->links[i] = (struct link_cost){.bytes_s = link_kind_bytes_s(l), .rtt_s = l->rtt_s};
}

static const struct plan *among(const struct plan *plans, size_t n, enum plan_mode mode, size_t prefill,
                                size_t decode) {
    for (size_t i = 0; i < n; i++)
        if (plans[i].mode == mode && plans[i].prefill == prefill && plans[i].decode == decode) return &plans[i];
    fail_msg("no such plan");
    return NULL;
}

static void near(double is, double should, double part) {
    if (!(fabs(is - should) <= part * should)) fail_msg("%g should be %g", is, should);
}

static void published_table(void **state) {
    struct world w;
    struct plan plans[8];
    (void)state;
    catalogue_world(&w, 8192, 32, "10gbe");
    w.in.tandem = true;
    size_t n = plan_rank(&w.in, plans, 8, NULL);
    const struct plan *spark = among(plans, n, PLAN_LOCAL, SPARK, SPARK), *mac = among(plans, n, PLAN_LOCAL, MAC, MAC);
    const struct plan *pair = among(plans, n, PLAN_DISAGGREGATED, SPARK, MAC),
                      *both = among(plans, n, PLAN_TANDEM, SPARK, MAC);
    near(spark->prefill_s, 1.47, 0.1), near(spark->decode_s, 2.87, 0.1), near(spark->total_s, 4.34, 0.1);
    near(mac->prefill_s, 5.57, 0.1), near(mac->decode_s, 0.85, 0.1), near(mac->total_s, 6.42, 0.1);
    near(pair->prefill_s, 1.47, 0.1), near(pair->decode_s, 0.85, 0.1), near(pair->total_s, 2.32, 0.1);
    near(mac->total_s / pair->total_s, 2.8, 0.1);
    assert_ptr_equal(pair, &plans[0]);
    assert_true(both->total_s > 2.03 * 0.95 && both->total_s < pair->total_s); // 2.03 s is the published bound
}

static void short_prompts_stay_local(void **state) {
    struct world w;
    struct plan p;
    (void)state;
    catalogue_world(&w, 50, 32, "10gbe");
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_int_equal(p.mode, PLAN_LOCAL);
    assert_int_equal(p.decode, MAC);
}

static void a_slow_link_is_bridged(void **state) {
    struct world w;
    struct plan p;
    (void)state;
    catalogue_world(&w, 8192, 400, "2.5gbe");
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_int_equal(p.mode, PLAN_DISAGGREGATED);
    near(p.exposed_s, 1.0737 / 0.29375 - 1.4748, 0.01); // 1 GiB at 2.35 Gbit/s, less the prefill
    near(p.handover, 1 + p.exposed_s / 0.0921, 0.05);   // the Spark's 92 ms per token
}

// At 10 Gbit/s the rows are there a moment after the first token, long before the Spark's second one; it begins that
// one unless it waits. An answer that is long makes nothing of it, and where both write alike nobody waits.
static void waits_for_what_is_shorter_than_a_token(void **state) {
    struct world w;
    struct plan p;
    (void)state;
    catalogue_world(&w, 8192, 32, "10gbe");
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_true(p.mode == PLAN_DISAGGREGATED && p.waits && p.handover == 1);
    w.in.generate = 2000;
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_true(p.mode == PLAN_DISAGGREGATED && !p.waits);
    catalogue_world(&w, 8192, 32, "10gbe");
    w.nodes[SPARK].profile.decode_base = 1.1 * w.nodes[MAC].profile.decode_base;
    w.nodes[SPARK].profile.decode_token = w.nodes[MAC].profile.decode_token;
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_true(p.mode == PLAN_DISAGGREGATED && !p.waits);
    w.nodes[SPARK].hands_over = true; // that is no hindrance
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_true(p.mode == PLAN_DISAGGREGATED && !p.waits && p.handover < w.in.generate);
    w.nodes[SPARK].no_decode = true; // its first token is all that it writes
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_true(p.mode == PLAN_DISAGGREGATED && p.waits);
}

// The Mac has answered the last turn: the Spark, which reads, gets its rows rather than compute them.
static void what_the_other_keeps_is_fetched(void **state) {
    struct world w;
    struct plan plans[8];
    (void)state;
    catalogue_world(&w, 8192, 32, "10gbe");
    w.nodes[MAC].cached_tokens = 4000;
    size_t n = plan_rank(&w.in, plans, 8, NULL);
    const struct plan *pair = among(plans, n, PLAN_DISAGGREGATED, SPARK, MAC);
    near(pair->fetch_s, 4000 * 131072 / w.links[1].bytes_s, 0.01);
    near(pair->prefill_s, pair->fetch_s + prefill_seconds(&w.nodes[SPARK].profile, 4192, 4000), 1e-9);
    w.nodes[MAC].cached_tokens = PLAN_FETCH;
    n = plan_rank(&w.in, plans, 8, NULL);
    assert_true(among(plans, n, PLAN_DISAGGREGATED, SPARK, MAC)->fetch_s == 0);
}

// The prefill node is the faster writer at first, and the slower one from the 40th token on.
static void handed_over_where_speeds_cross(void **state) {
    struct world w;
    struct plan p;
    (void)state;
    catalogue_world(&w, 1000, 100, "100gbe");
    w.nodes[SPARK].profile = (struct profile){.prefill_token = 1e-4, .decode_base = 0.01, .decode_token = 1e-4};
    w.nodes[MAC].profile = (struct profile){.prefill_token = 1, .decode_base = 0.1036, .decode_token = 1e-5};
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_int_equal(p.mode, PLAN_DISAGGREGATED);
    near(p.handover, 41, 0.03);
    near(p.total_s, oracle_pair(&w.in, SPARK, MAC), 1e-9);
}

// ---------------------------------------------------------------- what is taken into account
static void load_cache_roles_and_history(void **state) {
    struct world w;
    struct plan p;
    (void)state;
    catalogue_world(&w, 8192, 32, "10gbe");
    w.nodes[SPARK].queued_tokens = 100000,
    w.nodes[SPARK].queued_prompts = 20; // a queue of shorter ones sends the request elsewhere
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_true(p.mode == PLAN_LOCAL && p.prefill == MAC && p.wait_s == 0);
    w.nodes[SPARK].queued_prompts = 2; // long ones let it pass
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_true(p.mode == PLAN_DISAGGREGATED && p.wait_s > 0 && p.wait_s < 0.3);

    catalogue_world(&w, 8192, 32, "10gbe");
    w.nodes[MAC].cached_tokens = 8100; // so does a prompt that is known there
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_true(p.mode == PLAN_LOCAL && p.prefill == MAC);

    catalogue_world(&w, 8192, 32, "10gbe");
    struct plan_place last = {PLAN_LOCAL, SPARK, SPARK};
    w.in.last = &last; // a habit does not outweigh half the time,
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_int_equal(p.mode, PLAN_DISAGGREGATED);
    catalogue_world(&w, 50, 32, "10gbe");
    w.nodes[SPARK] = w.nodes[MAC]; // but decides between equals,
    w.in.last = &(struct plan_place){PLAN_LOCAL, MAC, MAC};
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_int_equal(p.prefill, MAC);
    w.in.last = NULL; // which else are taken in order
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_int_equal(p.prefill, SPARK);
    w.nodes[SPARK].role = PLAN_PRIME; // and so do roles
    assert_int_equal(plan_choose(&w.in, &p, NULL), 0);
    assert_int_equal(p.decode, MAC);
}

static void expect_refusal(const struct world *w, enum err_code code, const char *a, const char *b) {
    struct plan p;
    struct err e = {.code = ERR_NONE};
    assert_int_equal(plan_choose(&w->in, &p, &e), -1);
    if (e.code != code || !strstr(e.msg, a) || !strstr(e.msg, b)) fail_msg("%d: %s", (int)e.code, e.msg);
}

static void refusals_name_what_forbids(void **state) {
    struct world w;
    (void)state;
    catalogue_world(&w, 8192, 32, "10gbe");
    w.nodes[SPARK].no_prefill = w.nodes[MAC].no_prefill = true;
    w.nodes[SPARK].forbidden = "policy rule 7";
    expect_refusal(&w, ERR_DENIED, "dgx-spark may not read prompts: policy rule 7", "m3-ultra may not read prompts");
    catalogue_world(&w, 8192, 32, "10gbe");
    w.nodes[SPARK].free_cells = w.nodes[MAC].free_cells = 100;
    expect_refusal(&w, ERR_BUSY, "dgx-spark has room for 100 tokens, 8224 are needed", "m3-ultra has room for");
    catalogue_world(&w, 8192, 32, "10gbe");
    w.nodes[SPARK].no_decode = w.nodes[MAC].no_prefill = true;
    w.in.links = NULL;
    expect_refusal(&w, ERR_DENIED, "no rows may go from dgx-spark to m3-ultra", "may not write answers");
    catalogue_world(&w, 8192, 32, "10gbe");
    w.nodes[SPARK].profile.prefill_token = INFINITY;
    w.nodes[MAC].queued_tokens = NAN;
    expect_refusal(&w, ERR_DENIED, "dgx-spark absurd profile: prefill_token is inf",
                   "m3-ultra what it says of its load");
}

static void absurd_inputs_are_refused(void **state) {
    struct world w;
    (void)state;
    for (int i = 0; i < 8; i++) {
        catalogue_world(&w, 8192, 32, "10gbe");
        struct plan_place far = {PLAN_LOCAL, 5, 0};
        if (i == 0) w.in.n = 0;
        if (i == 1) w.in.n = PLAN_NODES + 1;
        if (i == 2) w.in.prompt = 0;
        if (i == 3) w.in.prompt = NAN;
        if (i == 4) w.in.generate = INFINITY;
        if (i == 5) w.in.chunk = 0;
        if (i == 6) w.in.rows.layers = 0;
        if (i == 7) w.in.last = &far;
        expect_refusal(&w, i == 1 ? ERR_LIMIT : ERR_INVALID, "", "");
    }
}

static void explains_in_words(void **state) {
    struct world w;
    struct plan plans[8];
    struct buf text;
    (void)state;
    catalogue_world(&w, 8192, 32, "10gbe");
    w.nodes[MAC].cached_tokens = 10;
    size_t n = plan_rank(&w.in, plans, 8, NULL);
    buf_init(&text, 4096);
    for (size_t i = 0; i < n; i++) assert_int_equal(plan_explain(&w.in, &plans[i], &plans[0], &text), 0);
    assert_non_null(strstr(buf_str(&text), "dgx-spark reads in 1.47 s; of "));
    assert_non_null(strstr(buf_str(&text), "m3-ultra has 10 tokens already"));
    assert_non_null(strstr(buf_str(&text), "s slower"));
    buf_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_oracle),
        cmocka_unit_test(never_a_forbidden_node),
        cmocka_unit_test(ranked_best_first),
        cmocka_unit_test(faster_is_never_slower),
        cmocka_unit_test(a_pair_never_hurts),
        cmocka_unit_test(published_table),
        cmocka_unit_test(short_prompts_stay_local),
        cmocka_unit_test(a_slow_link_is_bridged),
        cmocka_unit_test(waits_for_what_is_shorter_than_a_token),
        cmocka_unit_test(what_the_other_keeps_is_fetched),
        cmocka_unit_test(handed_over_where_speeds_cross),
        cmocka_unit_test(load_cache_roles_and_history),
        cmocka_unit_test(refusals_name_what_forbids),
        cmocka_unit_test(absurd_inputs_are_refused),
        cmocka_unit_test(explains_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
