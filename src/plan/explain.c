// The planner's reasons, in words.
#include "plan/plan.h"

#include <stdio.h>

enum { TIME_TEXT = 24 };

static const char *seconds(char out[TIME_TEXT], double s) {
    if (s < 0.0995)
        snprintf(out, TIME_TEXT, "%.1f ms", s * 1e3);
    else
        snprintf(out, TIME_TEXT, "%.2f s", s);
    return out;
}

static void explain_times(const struct plan_input *in, const struct plan *p, struct buf *out) {
    char a[TIME_TEXT], b[TIME_TEXT], c[TIME_TEXT];
    const char *from = in->nodes[p->prefill].name, *to = in->nodes[p->decode].name;
    if (p->mode == PLAN_LOCAL) {
        buf_printf(out, "%s reads in %s and writes in %s", from, seconds(a, p->prefill_s), seconds(b, p->decode_s));
        return;
    }
    if (p->mode == PLAN_TANDEM)
        buf_printf(out, "%s reads layers 1 to %.0f while %s reads the others, in %s; ", from, p->split, to,
                   seconds(a, p->prefill_s));
    else
        buf_printf(out, "%s reads in %s; ", from, seconds(a, p->prefill_s));
    double shown = p->transfer_s > 0 ? 100 * p->exposed_s / p->transfer_s : 0;
    buf_printf(out, "of %s of transfer %s show (%.0f %%); ", seconds(b, p->transfer_s), seconds(c, p->exposed_s),
               shown < 100 ? shown : 100);
    if (p->mode == PLAN_DISAGGREGATED && p->handover > 1)
        buf_printf(out, "%s writes %.0f tokens meanwhile, then %s, in %s", from, p->handover, to,
                   seconds(a, p->decode_s));
    else
        buf_printf(out, "%s writes%s in %s", to, p->waits ? " all but the first token" : "", seconds(a, p->decode_s));
}

static void explain_load(const struct plan_input *in, const struct plan *p, struct buf *out) {
    char a[TIME_TEXT];
    const struct plan_node *reads = &in->nodes[p->prefill], *writes = &in->nodes[p->decode];
    if (p->fetch_s > 0) buf_printf(out, "; rows that %s has are fetched in %s", writes->name, seconds(a, p->fetch_s));
    if (p->wait_s > 0)
        buf_printf(out, "; %.0f tokens wait before it (%s)", reads->queued_tokens, seconds(a, p->wait_s));
    if (reads->cached_tokens > 0) buf_printf(out, "; %s has %.0f tokens already", reads->name, reads->cached_tokens);
    if (p->decode != p->prefill && writes->cached_tokens > 0)
        buf_printf(out, "; %s has %.0f tokens already", writes->name, writes->cached_tokens);
    if (reads->role == PLAN_EDGE) buf_printf(out, "; %s prefers to write", reads->name);
    if (writes->role == PLAN_PRIME) buf_printf(out, "; %s prefers to read", writes->name);
}

int plan_explain(const struct plan_input *in, const struct plan *p, const struct plan *best, struct buf *out) {
    char a[TIME_TEXT];
    explain_times(in, p, out);
    explain_load(in, p, out);
    if (p->mode == PLAN_TANDEM) buf_puts(out, "; predicted only");
    if (p->total_s > best->total_s) buf_printf(out, "; %s slower", seconds(a, p->total_s - best->total_s));
    if (p->total_s < best->total_s && p->mode != PLAN_TANDEM)
        buf_printf(out, "; %s faster, which is too little for another node, a change or a role",
                   seconds(a, best->total_s - p->total_s));
    return out->failed ? -1 : 0;
}
