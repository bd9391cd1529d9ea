#include "plan/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 8, SEEN = FIT_SIZES * FIT_EACH };

static const double TOKENS_MAX = 1e9, SECONDS_MIN = 1e-9, SECONDS_MAX = 1e6; // of a sample
static const double RIDGE = 5e-4;           // what a coefficient twice the guess costs, in samples that are off by all
static const double SCALE_LEAST = 0.1;      // relative errors up to here are noise
static const double COEFFICIENT_MIN = 1e-3; // the least one, in parts of the guess
static const double CENTER_MOST = 1.5;      // how far the median may move what least squares say
static const double ERROR_LEAST = 1e-6;     // of an earlier fit
static const double FASTEST = 2e-12, SLOWEST = 1e5;

static double within(double v, double min, double max) { return v >= min ? fmin(v, max) : min; } // NaN: min

// ---------------------------------------------------------------- the guess
void fit_guess(struct profile *out, double parameters, double weight_bytes, double kv_bytes) {
    const double flops = 1e11, memory = 1e10; // of some CPU: only the proportions count once there is a sample
    parameters = within(parameters, 1e3, 1e14);
    weight_bytes = within(weight_bytes, 1e3, 1e14);
    kv_bytes = within(kv_bytes, 1, 1e9);
    double heads = 4; // query heads per KV head, of many models; half precision: 2 bytes per number
    *out = (struct profile){.prefill_base = weight_bytes / memory,
                            .prefill_token = 2 * parameters / flops,
                            .prefill_pair = 2 * heads * kv_bytes / 2 / flops,
                            .decode_base = weight_bytes / memory,
                            .decode_token = kv_bytes / memory};
}

// ---------------------------------------------------------------- small helpers
static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n) { // sorts v
    qsort(v, n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double product(const double *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static size_t gather(const struct fit_phase *p, const struct fit_seen **out) {
    size_t n = 0;
    for (size_t i = 0; i < FIT_SIZES; i++)
        for (size_t k = 0; k < FIT_EACH; k++)
            if (p->seen[i][k].seconds > 0) out[n++] = &p->seen[i][k];
    return n;
}

// ---------------------------------------------------------------- least squares
// minimize u'Au - 2 b'u, A symmetric and positive definite
struct normal {
    size_t n;
    double a[FIT_TERMS][FIT_TERMS], b[FIT_TERMS];
};

// Solves for the terms in `set`, the others 0, by Gauss: A is positive definite, no pivoting is needed.
static void solve_set(const struct normal *m, unsigned set, double *u) {
    struct normal w = *m;
    for (size_t i = 0; i < w.n; i++) {
        if (set >> i & 1) continue;
        for (size_t k = 0; k < w.n; k++) w.a[i][k] = w.a[k][i] = 0;
        w.a[i][i] = 1;
        w.b[i] = 0;
    }
    for (size_t i = 0; i < w.n; i++)
        for (size_t r = i + 1; r < w.n; r++) {
            double f = w.a[r][i] / w.a[i][i];
            for (size_t k = i; k < w.n; k++) w.a[r][k] -= f * w.a[i][k];
            w.b[r] -= f * w.b[i];
        }
    for (size_t i = w.n; i-- > 0;) {
        u[i] = w.b[i];
        for (size_t k = i + 1; k < w.n; k++) u[i] -= w.a[i][k] * u[k];
        u[i] /= w.a[i][i];
    }
}

static double objective(const struct normal *m, const double *u) {
    double sum = 0;
    for (size_t i = 0; i < m->n; i++) sum += u[i] * (product(m->a[i], u, m->n) - 2 * m->b[i]);
    return sum;
}

// The least one without a negative term: of so few terms, all sets of those that are not 0 are tried.
static void solve(const struct normal *m, double *u) {
    double best = INFINITY, one[FIT_TERMS];
    for (unsigned set = 0; set < 1u << m->n; set++) {
        bool negative = false;
        solve_set(m, set, one);
        for (size_t i = 0; i < m->n; i++) negative |= !(one[i] >= 0);
        double cost = negative ? INFINITY : objective(m, one);
        if (!(cost < best)) continue;
        best = cost;
        memcpy(u, one, m->n * sizeof *u);
    }
}

// ---------------------------------------------------------------- one phase
// Relative error of a prediction, from -1 to 1, however absurd.
static double off(double predicted, double seconds) { return (predicted - seconds) / fmax(predicted, seconds); }

// How much slower than the guess the samples say the machine is.
static double pace(const struct fit_phase *p, const struct fit_seen *const *all, size_t n) {
    double ratio[SEEN];
    for (size_t i = 0; i < n; i++) ratio[i] = all[i]->seconds / product(p->guess, all[i]->x, p->terms);
    return n ? median(ratio, n) : 1;
}

static double spread(const struct fit_phase *p, const struct fit_seen *const *all, size_t n) {
    double error[SEEN];
    for (size_t i = 0; i < n; i++) error[i] = fabs(off(product(p->now, all[i]->x, p->terms), all[i]->seconds));
    return median(error, n);
}

// One turn: weights from the errors of p->now, which then becomes better. u = coefficients in parts of `scaled`.
static void improve(struct fit_phase *p, const struct fit_seen *const *all, size_t n, const double *scaled,
                    bool weighted) {
    struct normal m = {.n = p->terms};
    double scale = fmax(SCALE_LEAST, 1.5 * spread(p, all, n)), u[FIT_TERMS];
    for (size_t i = 0; i < p->terms; i++) m.a[i][i] = m.b[i] = RIDGE;
    for (size_t s = 0; s < n; s++) {
        double predicted = product(p->now, all[s]->x, p->terms), size = fmax(predicted, all[s]->seconds);
        double error = weighted ? off(predicted, all[s]->seconds) / scale : 0, row[FIT_TERMS];
        double weight = exp2(-(double)(p->serial - all[s]->serial) / FIT_HALF) / (1 + error * error);
        for (size_t i = 0; i < p->terms; i++) row[i] = all[s]->x[i] * scaled[i] / size;
        for (size_t i = 0; i < p->terms; i++) {
            for (size_t k = 0; k < p->terms; k++) m.a[i][k] += weight * row[i] * row[k];
            m.b[i] += weight * row[i] * all[s]->seconds / size;
        }
    }
    solve(&m, u);
    for (size_t i = 0; i < p->terms; i++) p->now[i] = u[i] * scaled[i];
}

// What slows a machine down now and then makes requests slower, hardly ever faster: least squares that trust the many
// follow the fast ones. So that half of the requests are faster and half slower than predicted, the median decides.
static void center(struct fit_phase *p, const struct fit_seen *const *all, size_t n) {
    double ratio[SEEN];
    size_t latest = 0;
    for (size_t i = 0; i < n; i++)
        if (p->serial - all[i]->serial < FIT_HALF)
            ratio[latest++] = all[i]->seconds / product(p->now, all[i]->x, p->terms);
    double by = latest ? within(median(ratio, latest), 1 / CENTER_MOST, CENTER_MOST) : 1;
    for (size_t i = 0; i < p->terms; i++) p->now[i] *= by;
}

static void refit(struct fit_phase *p) {
    const struct fit_seen *all[SEEN];
    size_t n = gather(p, all);
    double scaled[FIT_TERMS], faster = n ? pace(p, all, n) : 1;
    for (size_t i = 0; i < p->terms; i++) p->now[i] = scaled[i] = p->guess[i] * faster;
    for (int turn = 0; turn < TURNS && n; turn++) improve(p, all, n, scaled, turn > 0);
    if (n) center(p, all, n);
    for (size_t i = 0; i < p->terms; i++) p->now[i] = within(p->now[i], scaled[i] * COEFFICIENT_MIN, SLOWEST);
}

static size_t class_of(double size) {
    size_t i = 0;
    for (double most = 4; i + 1 < FIT_SIZES && size > most; most *= 4) i++;
    return i;
}

static void take(struct fit_phase *p, double size, const double *x, double seconds) {
    struct fit_seen *row = p->seen[class_of(size)], *oldest = row;
    for (size_t i = 1; i < FIT_EACH; i++)
        if (row[i].serial < oldest->serial) oldest = &row[i];
    *oldest = (struct fit_seen){.seconds = seconds, .serial = ++p->serial};
    p->counted++;
    memcpy(oldest->x, x, p->terms * sizeof *x);
}

// ---------------------------------------------------------------- both
void fit_init(struct fit *f, const struct profile *guess) {
    double prefill[] = {guess->prefill_base, guess->prefill_token, guess->prefill_pair};
    double decode[] = {guess->decode_base, guess->decode_token};
    memset(f, 0, sizeof *f);
    f->prefill.terms = sizeof prefill / sizeof *prefill;
    f->decode.terms = sizeof decode / sizeof *decode;
    for (size_t i = 0; i < f->prefill.terms; i++) f->prefill.guess[i] = within(prefill[i], FASTEST, SLOWEST);
    for (size_t i = 0; i < f->decode.terms; i++) f->decode.guess[i] = within(decode[i], FASTEST, SLOWEST);
    refit(&f->prefill);
    refit(&f->decode);
}

static void terms_of(const struct fit_sample *s, double *prefill, double *decode) {
    prefill[0] = 1;
    prefill[1] = s->tokens;
    prefill[2] = s->tokens * (s->cached + s->tokens / 2);
    decode[0] = s->steps;
    decode[1] = s->steps * (s->context + (s->steps - 1) / 2);
}

static bool is_count(double v) { return v >= 0 && v <= TOKENS_MAX; }
static bool is_time(double v) { return v >= SECONDS_MIN && v <= SECONDS_MAX; }

static int check(const struct fit_sample *s, struct err *e) {
    bool counts = is_count(s->tokens) && is_count(s->cached) && is_count(s->context) && is_count(s->steps);
    if (!counts || (s->tokens > 0 && (s->tokens < 1 || !is_time(s->prefill_s))) ||
        (s->steps > 0 && (s->steps < 1 || !is_time(s->decode_s))))
        return err_set(e, ERR_INVALID, "absurd measurement: %g tokens after %g in %g s, %g at %g in %g s", s->tokens,
                       s->cached, s->prefill_s, s->steps, s->context, s->decode_s);
    return 0;
}

static void learn(struct fit *f, const struct fit_sample *s) {
    double prefill[FIT_TERMS], decode[FIT_TERMS];
    terms_of(s, prefill, decode);
    if (s->tokens > 0) take(&f->prefill, s->cached + s->tokens, prefill, s->prefill_s);
    if (s->steps > 0) take(&f->decode, s->context, decode, s->decode_s);
}

int fit_add(struct fit *f, const struct fit_sample *s, struct err *e) {
    if (check(s, e)) return -1;
    learn(f, s);
    refit(&f->prefill);
    refit(&f->decode);
    return 0;
}

static void note_error(struct fit *f, double predicted, double seconds) {
    f->errors[f->n_errors++ % FIT_ERRORS] = fabs(predicted / seconds - 1);
}

int fit_correct(struct fit *f, const struct fit_sample *s, struct err *e) {
    double prefill[FIT_TERMS], decode[FIT_TERMS];
    if (check(s, e)) return -1;
    terms_of(s, prefill, decode);
    if (s->tokens > 0) note_error(f, product(f->prefill.now, prefill, f->prefill.terms), s->prefill_s);
    if (s->steps > 0) note_error(f, product(f->decode.now, decode, f->decode.terms), s->decode_s);
    return fit_add(f, s, e);
}

void fit_resume(struct fit *f, const struct profile *guess, const struct profile *known, double error) {
    fit_init(f, guess);
    for (double n = 16; n <= 65536; n *= 4) {
        struct fit_sample s = {.tokens = n, .context = n, .steps = 8};
        s.prefill_s = within(prefill_seconds(known, n, 0), SECONDS_MIN, SECONDS_MAX);
        s.decode_s = within(decode_seconds(known, n, s.steps), SECONDS_MIN, SECONDS_MAX);
        learn(f, &s);
    }
    refit(&f->prefill);
    refit(&f->decode);
    f->errors[f->n_errors++] = within(error, 0, 1);
    f->prefill.counted = f->decode.counted = (uint64_t)ceil(1 / within(error, ERROR_LEAST, 1));
}

void fit_profile(const struct fit *f, struct profile *out) {
    const double *p = f->prefill.now, *d = f->decode.now;
    *out = (struct profile){p[0], fmax(p[1], FASTEST), p[2], fmax(d[0], FASTEST), d[1]};
}

// The median of the last predictions, or else of the samples.
static double median_error(const struct fit *f) {
    const struct fit_seen *all[SEEN];
    double errors[FIT_ERRORS];
    size_t n = f->n_errors < FIT_ERRORS ? f->n_errors : FIT_ERRORS;
    memcpy(errors, f->errors, sizeof errors);
    if (n) return median(errors, n);
    size_t n_prefill = gather(&f->prefill, all);
    double a = n_prefill ? spread(&f->prefill, all, n_prefill) : 0;
    size_t n_decode = gather(&f->decode, all);
    return fmax(a, n_decode ? spread(&f->decode, all, n_decode) : 0);
}

double fit_error(const struct fit *f) {
    uint64_t n = f->prefill.counted < f->decode.counted ? f->prefill.counted : f->decode.counted;
    return n ? fmin(1, fmax(median_error(f), 1 / (double)n)) : 1;
}
