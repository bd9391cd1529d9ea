// Fits the cost coefficients of a model on a machine (plan/cost.h) to what was measured there. Both phases are linear
// in their coefficients, so each is a small non-negative least-squares problem, in relative errors: short and long
// requests count alike. Pure: no I/O, no clock, no allocation. Threads: any, one at a time per fit.
//
// - Where samples say nothing of a coefficient, the shape of a guess decides, scaled to what the samples say.
// - A few samples are kept per size of request, the latest ones, so that many short requests do not push out what a
//   long one has taught; older ones count less: half after FIT_HALF newer ones.
// - A sample that the others contradict counts little (weights 1 / (1 + (error / scale)^2), found by iteration). Of the
//   FIT_HALF latest ones half are then predicted too fast and half too slow: all coefficients are scaled by the median.
#pragma once

#include "plan/cost.h"

enum {
    FIT_TERMS = 3,   // coefficients of a phase, at most
    FIT_SIZES = 12,  // classes of sizes: up to 4, 16, 64, ... tokens
    FIT_EACH = 6,    // samples kept of each
    FIT_HALF = 32,   // see above
    FIT_ERRORS = 20, // predictions that the error is the median of
};

// What one request took. tokens = 0: it says nothing of prefill; steps = 0: nothing of decode.
struct fit_sample {
    double tokens, cached, prefill_s;
    double context, steps, decode_s; // `steps` tokens, the first of which saw `context` positions
};

struct fit_seen {
    double x[FIT_TERMS], seconds; // seconds = 0: free
    uint64_t serial;
};

struct fit_phase {
    size_t terms;
    double guess[FIT_TERMS], now[FIT_TERMS];
    struct fit_seen seen[FIT_SIZES][FIT_EACH];
    uint64_t serial;  // of the latest
    uint64_t counted; // samples ever, those of earlier fits among them
};

struct fit {
    struct fit_phase prefill, decode;
    double errors[FIT_ERRORS];
    size_t n_errors; // ever
};

// A machine that nothing is known of, from the model's shape alone: its parameters, the bytes of its weights and of
// its KV rows per position. Any numbers: absurd ones are replaced.
void fit_guess(struct profile *out, double parameters, double weight_bytes, double kv_bytes);

// Begins with a guess that profile_check takes.
void fit_init(struct fit *f, const struct profile *guess);

// Begins again where an earlier fit has ended, with its profile (one that profile_check takes) and error (0..1): as if
// requests of some lengths had taken just that.
void fit_resume(struct fit *f, const struct profile *guess, const struct profile *known, double error);

// Takes a sample in. ERR_INVALID, and nothing happens, where a number of it is absurd.
int fit_add(struct fit *f, const struct fit_sample *s, struct err *e) MUST_USE;

// The same for a request that a user made: first notes how far the prediction was off.
int fit_correct(struct fit *f, const struct fit_sample *s, struct err *e) MUST_USE;

// Always one that profile_check takes.
void fit_profile(const struct fit *f, struct profile *out);

// How far predictions are off: max(m, 1/n), at most 1. m is the median relative error of the last predictions, and
// before there are any, of the samples; n is how many samples the phase with fewer of them has had. Coefficients that
// were fitted to one sample agree with it, whatever it was: 1/n keeps such a fit a guess (1), and lets it count as good
// as 5 % after 20.
double fit_error(const struct fit *f);
