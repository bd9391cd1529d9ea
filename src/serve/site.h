// A place on a model of this node: a request of its worker, with the KV streams that lead to it and away from it. Not
// for gateways, which use serve/place.h, but for what obeys them. Threads: the event-loop thread.
#pragma once

#include "serve/place.h"

struct place *site_open(struct serve *s, const struct place_spec *spec, const struct place_events *ev, void *arg,
                        struct err *e) MUST_USE;

// What this model has to do: prompt tokens that wait or are being read, and since when (clock_mono_ns; 0 = there are
// none); KV rows of the sequences that generate, or are held.
struct site_load {
    double queued, prompts; // tokens, in how many prompts
    double context;
    uint64_t since_ns;
};
void site_load(const struct serve *s, const struct model *m, struct site_load *out);

// How far a place of this node is, whatever it is done for. `phase` is static: "waiting" (for its turn), "receiving"
// (rows of another node), "prefill", "decode", "standby" (paused).
struct site_view {
    const char *model, *phase;
    int32_t prompt_tokens, tokens;
};
void site_look(const struct place *p, struct site_view *out);

// The receiver of a stream, the node `by`, has installed units: its sender on this node may begin as many more. Unknown
// streams, and those to other nodes, are fine.
void site_credit(struct serve *s, const char *by, uint64_t stream, int32_t units);
