// Layers 3 and up: every head finds the place whose context has the same hash; its value is a share of the code that
// stood there. Shares are random mixtures; only the sum over all heads of all these layers is the code, so that a lost
// layer shows.
#include "linear.h"
#include "mem.h"
#include "recall_parts.h"

#include <math.h>

// columns of a mixture: what a value is made of
enum {
    MIX_KEY = 0,
    MIX_CODE = BITS,
    MIX_END = MIX_CODE + CODE_LENGTH,
    MIX_LAGS = MIX_END + 1, // distances 1 .. STEP before the found place
    MIX_COUNT = MIX_LAGS + STEP * CODE_LENGTH,
    OUTPUTS = CODE_LENGTH + 1, // the code to say and the end mark
    NEAR_BYTES = 24,           // that odd heads look at
};

int recall_match_columns(void) { return MIX_COUNT; }

// Scores of agreeing bits: of all heads' keys with the queries of even heads (full) and of odd ones (near), same
// maximum.
struct weights {
    double full[BITS], near[BITS];
    double maximum;
};

static void weigh_bits(struct weights *w) {
    double near = 0;
    w->maximum = 0;
    for (int b = 0; b < BITS; b++) {
        int lag;
        w->full[b] = recall_hash_weight(b, &lag);
        w->near[b] = lag < NEAR_BYTES ? w->full[b] : 0;
        w->maximum += w->full[b];
        near += w->near[b];
    }
    for (int b = 0; b < BITS; b++) w->near[b] *= w->maximum / near;
}

// One fixed dimension of the keys and queries of KV head g; column b of the basis carries bit b, the next ones what
// follows.
static void fill_dimension(struct recall *r, struct layer *l, int g, int i, const double *basis,
                           const struct weights *w) {
    double common = basis[BITS * FIXED + i];
    double sink = basis[(BITS + 1) * FIXED + i];
    double assistant = basis[(BITS + 2) * FIXED + i];
    int row = g * HEAD + FIXED0 + i;
    double bos = 0;
    for (int b = 0; b < BITS; b++) {
        double key = sqrt(w->full[b] * sqrt(HEAD)) * basis[b * FIXED + i];
        *at(l->key, row, AT_KEY + b) = (float)key;
        bos += key; // BOS has bits -1: take them away
    }
    float base = (float)(recall_key_for(WANTED - w->maximum) * common);
    *at(l->key, row, AT_BYTE) = base;
    *at(l->key, row, AT_USER) = base;
    *at(l->key, row, AT_OTHER) = base;
    *at(l->key, row, AT_ASSISTANT) = (float)(base + recall_key_for(-2 * w->maximum) * assistant);
    *at(l->key, row, AT_BOS) = (float)(bos + recall_key_for(WANTED - 0.55 * w->maximum) * sink);
    for (int h = g * r->group; h < (g + 1) * r->group; h++) {
        int query = h * HEAD + FIXED0 + i;
        const double *weight = h & 1 ? w->near : w->full;
        *at(l->query, query, AT_ONE) = (float)(FIXED_QUERY * (common + sink) / AMP_ONE);
        *at(l->query, query, AT_ASSISTANT) = (float)(FIXED_QUERY * assistant); // such a marker overlooks its own kind
        for (int b = 0; b < BITS; b++)
            *at(l->query, query, AT_QUERY + b) =
                (float)(weight[b] / w->full[b] * sqrt(w->full[b] * sqrt(HEAD)) * basis[b * FIXED + i]);
    }
}

static void fill_keys(struct recall *r, struct layer *l) {
    struct weights w;
    weigh_bits(&w);
    double *basis = mem_new(FIXED * FIXED, sizeof *basis);
    for (int g = 0; g < r->settings.shape.kv_heads; g++) {
        linear_orthogonal(basis, FIXED, &r->rng);
        for (int i = 0; i < FIXED; i++) fill_dimension(r, l, g, i, basis, &w);
    }
    free(basis);
}

static double mixture_deviation(int column) {
    if (column < MIX_CODE) return 0.6 / sqrt(BITS);
    if (column < MIX_END) return 0.4 / sqrt(CODE_LENGTH);
    if (column < MIX_LAGS) return 0.1;
    return 0.5 / sqrt(STEP * CODE_LENGTH);
}

static void fill_values(struct recall *r, struct layer *l, double *mixture) {
    static const int markers[] = {AT_BOS, AT_USER, AT_ASSISTANT, AT_OTHER};
    for (int row = 0; row < r->settings.shape.kv_heads * HEAD; row++) {
        double *m = mixture + (size_t)row * MIX_COUNT;
        for (int c = 0; c < MIX_COUNT; c++) m[c] = rng_gauss(&r->rng) * mixture_deviation(c);
        for (int b = 0; b < BITS; b++) *at(l->value, row, AT_KEY + b) = (float)m[MIX_KEY + b];
        for (int x = 0; x < CODE_LENGTH; x++) *at(l->value, row, AT_CODE + x) = (float)m[MIX_CODE + x];
        for (int k = 0; k < 4; k++) *at(l->value, row, markers[k]) = (float)(AMP_END * m[MIX_END]);
        for (int c = 0; c < STEP * CODE_LENGTH; c++)
            *at(l->value, row, AT_LAGS + CODE_LENGTH + c) = (float)m[MIX_LAGS + c];
    }
}

void recall_match_layer(struct recall *r, struct layer *l, double *mixture) {
    fill_keys(r, l);
    fill_values(r, l, mixture);
    for (int h = 0; h < r->settings.shape.heads; h++)
        r->shares[r->share_count++] = (struct share){l->value, l->output, mixture, h / r->group, h};
}

static const double *mixture_of(const struct share *s, int i) {
    return s->mixture + ((size_t)s->kv_head * HEAD + (size_t)i) * MIX_COUNT;
}

static void add_gram(double *gram, const struct share *s) {
    for (int i = 0; i < HEAD; i++) {
        const double *m = mixture_of(s, i);
        for (int a = 0; a < MIX_COUNT; a++)
            for (int b = 0; b <= a; b++) gram[a * MIX_COUNT + b] += m[a] * m[b];
    }
}

// Random output weights that do not see the end mark, which is large; adds what they let through to `residue`.
static void draw_outputs(struct recall *r, const struct share *s, int y, double *residue) {
    double w[HEAD], along = 0, square = 0;
    double deviation = NOISE * AMP_OUT / sqrt(HEAD);
    for (int i = 0; i < HEAD; i++) {
        double end = mixture_of(s, i)[MIX_END];
        w[i] = rng_gauss(&r->rng) * deviation;
        along += w[i] * end;
        square += end * end;
    }
    for (int i = 0; i < HEAD; i++) {
        const double *m = mixture_of(s, i);
        w[i] -= along / square * m[MIX_END];
        *at(s->output, AT_OUT + y, s->head * HEAD + i) = (float)w[i];
        for (int c = 0; c < MIX_COUNT; c++) residue[c] += w[i] * m[c];
    }
}

// What the sum should be: the code (or the end mark) of the found place, and noise where its nearest bytes differ.
static void subtract_target(const struct recall *r, int y, double *residue) {
    residue[MIX_CODE + y] -= AMP_OUT; // for y == CODE_LENGTH this is MIX_END
    if (y == CODE_LENGTH) return;
    for (int t = 0; t < STEP; t++)
        for (int x = 0; x < CODE_LENGTH; x++) residue[MIX_LAGS + t * CODE_LENGTH + x] += AMP_OUT * r->check[t][y][x];
}

static void correct_outputs(const struct share *s, int y, const double *correction) {
    for (int i = 0; i < HEAD; i++) {
        const double *m = mixture_of(s, i);
        double w = 0;
        for (int c = 0; c < MIX_COUNT; c++) w += correction[c] * m[c];
        *at(s->output, AT_OUT + y, s->head * HEAD + i) -= (float)w;
    }
}

// Even heads together say the code; odd ones, which look at the nearest bytes only, together say nothing.
static int solve_heads(struct recall *r, int odd, struct err *e) {
    double *gram = mem_new(MIX_COUNT * MIX_COUNT, sizeof *gram);
    double *residue = mem_new(OUTPUTS * MIX_COUNT, sizeof *residue);
    int result = 0;
    for (int n = 0; n < r->share_count; n++) {
        const struct share *s = &r->shares[n];
        if ((s->head & 1) != odd) continue;
        add_gram(gram, s);
        for (int y = 0; y < OUTPUTS; y++) draw_outputs(r, s, y, residue + y * MIX_COUNT);
    }
    for (int y = 0; y < OUTPUTS && !odd; y++) subtract_target(r, y, residue + y * MIX_COUNT);
    if (!linear_cholesky(gram, MIX_COUNT)) {
        result =
            err_set(e, ERR_INVALID, "too few heads in too few layers to share the output: give more layers or heads");
        goto cleanup;
    }
    for (int y = 0; y < OUTPUTS; y++) linear_solve(gram, MIX_COUNT, residue + y * MIX_COUNT);
    for (int n = 0; n < r->share_count; n++) {
        if ((r->shares[n].head & 1) != odd) continue;
        for (int y = 0; y < OUTPUTS; y++) correct_outputs(&r->shares[n], y, residue + y * MIX_COUNT);
    }
cleanup:
    free(gram);
    free(residue);
    return result;
}

int recall_match_solve(struct recall *r, struct err *e) {
    if (solve_heads(r, 0, e)) return -1;
    return solve_heads(r, 1, e);
}
