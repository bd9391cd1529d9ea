// What phases of a request cost in seconds. The same formulas serve devices of the catalogue (coefficients computed
// from data sheets) and machines that were measured (coefficients fitted). Pure functions. Threads: any.
//
//   prefill(n new tokens, c already there) = a + b n + q n (c + n/2)      seconds
//   decode(context)                        = w + r context                seconds per token
//   transfer(bytes)                        = rtt/2 + bytes / bandwidth
//
// Of a device with F = its reachable operations per second and M = its reachable bytes per second, and a model with P
// parameters that a token is multiplied with in the layers, H of them in the output head, d numbers in a key and a
// value:
//   a = (bytes of all weights) / M + 2 H / F      a pass reads every weight once; the last token needs the head
//   b = 2 P / F                                   a multiplication and an addition each (with experts: / 0.3)
//   q = 2 heads d layers / F                      scores and sums over the positions before: causal, hence n/2
//   w = (bytes of the weights used) / M,  r = (KV bytes per position) / M
#pragma once

#include "plan/device.h"
#include "plan/shape.h"
#include <stdbool.h>

// One model on one machine.
struct profile {
    double prefill_base;  // a: seconds per prompt
    double prefill_token; // b: seconds per token
    double prefill_pair;  // q: seconds per pair of a token and a position before it
    double decode_base;   // w: seconds per token
    double decode_token;  // r: seconds per token and position of context
};

// Fails with ERR_INVALID where a coefficient is NaN, infinite, negative or beyond any machine, or where a token would
// cost nothing at all.
int profile_check(const struct profile *p, struct err *e) MUST_USE;

// A device of the catalogue, with a KV cache of type `kv`. Layers with an attention window count as if each token saw a
// whole window, which is too much for the first tokens of a prompt.
void profile_of_device(struct profile *out, const struct device *d, const struct plan_shape *s, enum dtype kv);

double prefill_seconds(const struct profile *p, double tokens, double cached);

// `steps` tokens, the first of which sees `context` positions.
double decode_seconds(const struct profile *p, double context, double steps);

struct link_cost {
    double bytes_s; // that a stream gets; 0 = there is no link
    double rtt_s;
};

int link_check(const struct link_cost *l, struct err *e) MUST_USE;

// Work of `compute` seconds and the transfer of its results, `transfer` seconds, both in `pieces` equal parts, where a
// part travels when it is computed and parts travel one after the other: how long the last part arrives after the
// computation has ended (two machines in a row, as in Johnson's flow shop: the whole takes max(c + t/p, c/p + t)).
double exposed_seconds(double compute, double transfer, double pieces);

// From how many prompt tokens on the transfer of KV rows hides behind the computing of the layers.
// As published (blog.exolabs.net/nvidia-dgx-spark): attention alone, n > q P / (B K), with q bits per number, P
// operations per second and B bits per second on paper, and K = 2 heads / KV heads. It counts all n^2 pairs of a
// prompt, though a causal model needs half, and leaves out the scales of 8-bit rows: a rough bound.
double overlap_attention_only(const struct plan_shape *s, const struct device *d, double link_bits_s, enum dtype wire);

// With the layers' matrices, reachable speeds and whole rows: kv / B <= b + q n/2. 1 where every prompt hides its
// transfer, INFINITY where none does.
double overlap_full(const struct profile *p, double kv_bytes_per_token, const struct link_cost *l);
