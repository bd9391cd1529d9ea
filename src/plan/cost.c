#include "plan/cost.h"

#include <math.h>

static const double SECONDS_MAX = 1e6;                   // per prompt or token; no machine is slower
static const double BYTES_S_MIN = 1, BYTES_S_MAX = 1e15; // of a link
static const double FASTEST_TOKEN = 1e-12;               // seconds; no machine is faster

// The part of a device's reachable operations that is left when experts are computed, each with few of a prompt's
// tokens. Fitted to gpt-oss-20b and -120b (MXFP4) on a DGX Spark: prompts of 2,048 tokens at 3,611 and 1,937 tokens/s
// (jetsonhacks.com, spark-llamacpp-bench; forums.developer.nvidia.com/t/355639); assumed to hold elsewhere.
static const double EXPERTS = 0.3;

static bool is_within(double v, double min, double max) { return isfinite(v) && v >= min && v <= max; }

int profile_check(const struct profile *p, struct err *e) {
    const struct {
        const char *name;
        double value, min;
    } all[] = {{"prefill_base", p->prefill_base, 0},
               {"prefill_token", p->prefill_token, FASTEST_TOKEN},
               {"prefill_pair", p->prefill_pair, 0},
               {"decode_base", p->decode_base, FASTEST_TOKEN},
               {"decode_token", p->decode_token, 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!is_within(all[i].value, all[i].min, SECONDS_MAX))
            return err_param(e, all[i].name, "absurd profile: %s is %g s", all[i].name, all[i].value);
    return 0;
}

int link_check(const struct link_cost *l, struct err *e) {
    if (!is_within(l->bytes_s, BYTES_S_MIN, BYTES_S_MAX))
        return err_param(e, "bytes_s", "absurd link: %g bytes per second", l->bytes_s);
    if (!is_within(l->rtt_s, 0, SECONDS_MAX))
        return err_param(e, "rtt_s", "absurd link: a round trip of %g s", l->rtt_s);
    return 0;
}

void profile_of_device(struct profile *out, const struct device *d, const struct plan_shape *s, enum dtype kv) {
    double flops = d->tflops * 1e12 * d->compute, memory = d->gb_s * 1e9 * d->bandwidth;
    double pair = plan_shape_pair_flops(s), full = s->layers - s->windowed_layers;
    double part = s->active < s->parameters - s->table ? EXPERTS : 1;
    double window_pairs = (double)s->windowed_layers * s->window;
    double row = s->kv_width * dtype_bits(kv) / 8;
    *out = (struct profile){
        .prefill_base = plan_shape_pass_bytes(s) / memory + 2 * s->head / flops,
        .prefill_token = (plan_shape_token_flops(s) / part + pair * window_pairs) / flops,
        .prefill_pair = pair * full / flops,
        .decode_base = (plan_shape_read_bytes(s) + row * window_pairs) / memory,
        .decode_token = row * full / memory,
    };
}

double prefill_seconds(const struct profile *p, double tokens, double cached) {
    return p->prefill_base + p->prefill_token * tokens + p->prefill_pair * tokens * (cached + tokens / 2);
}

double decode_seconds(const struct profile *p, double context, double steps) {
    if (steps <= 0) return 0;
    return steps * (p->decode_base + p->decode_token * (context + (steps - 1) / 2));
}

double exposed_seconds(double compute, double transfer, double pieces) {
    return fmax(transfer / pieces, transfer - compute * (1 - 1 / pieces));
}

double overlap_attention_only(const struct plan_shape *s, const struct device *d, double link_bits_s, enum dtype wire) {
    double bits = floor(dtype_bits(wire));
    return bits * d->tflops * 1e12 * s->kv_width / (link_bits_s * plan_shape_pair_flops(s));
}

double overlap_full(const struct profile *p, double kv_bytes_per_token, const struct link_cost *l) {
    double lacking = kv_bytes_per_token / l->bytes_s - p->prefill_token;
    if (lacking <= 0) return 1;
    return p->prefill_pair > 0 ? fmax(1, ceil(2 * lacking / p->prefill_pair)) : INFINITY;
}
