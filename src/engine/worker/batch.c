#include "engine/worker/batch.h"
#include "base/limits.h"

#include <stddef.h>

bool lane_decodes(const struct lane *l) { return !l->parked && l->len - l->past == 1; }

bool lane_before(const struct lane *a, const struct lane *b) {
    return a->due != b->due ? a->due < b->due : a->serial < b->serial;
}

uint64_t lane_due(uint64_t arrival_ns, int32_t prompt_tokens, const struct pace *p) {
    return arrival_ns + (uint64_t)(p->prompt_ns * prompt_tokens);
}

static void blend(double *mean, double sample, double weight) {
    *mean = *mean > 0 ? *mean + weight * (sample - *mean) : sample;
}

void pace_learn(struct pace *p, int32_t decodes, int32_t prompt_tokens, uint64_t ns) {
    double took = (double)ns;
    if (!prompt_tokens) {
        blend(&p->decode_ns, took, 0.2);
        return;
    }
    // what the step would have cost anyway is not the prompt's; a few tokens tell little about the cost of many
    if (decodes) took = took > p->decode_ns ? took - p->decode_ns : 0;
    double weight = prompt_tokens < 64 ? prompt_tokens / 64.0 : 1;
    blend(&p->prompt_ns, took / prompt_tokens, 0.3 * weight);
}

int32_t pace_budget(const struct pace *p, int32_t decodes, uint64_t step_ns, int32_t capacity) {
    int32_t most = capacity > decodes ? capacity - decodes : 1;
    int32_t least = most < BATCH_FLOOR ? most : BATCH_FLOOR;
    if (!decodes) return most;
    double left = (double)step_ns - p->decode_ns;
    if (p->prompt_ns <= 0 || left <= p->prompt_ns * least) return least;
    return left >= p->prompt_ns * most ? most : (int32_t)(left / p->prompt_ns);
}

int32_t batch_plan(const struct lane *const *lanes, int32_t n, int32_t budget, struct share *out) {
    int32_t shares = 0, prompts = 0, order[LIMIT_PARALLEL];
    for (int32_t i = 0; i < n; i++) {
        if (lanes[i]->parked) continue;
        if (lane_decodes(lanes[i])) {
            out[shares++] = (struct share){i, 1};
            continue;
        }
        int32_t at = prompts++;
        for (; at > 0 && lane_before(lanes[i], lanes[order[at - 1]]); at--) order[at] = order[at - 1];
        order[at] = i;
    }
    for (int32_t i = 0; i < prompts && budget > 0; i++) {
        int32_t left = lanes[order[i]]->len - lanes[order[i]]->past;
        int32_t count = left < budget ? left : budget;
        out[shares++] = (struct share){order[i], count};
        budget -= count;
    }
    return shares;
}

int64_t batch_cells(const struct lane *const *lanes, int32_t n) {
    int64_t cells = 0;
    for (int32_t i = 0; i < n; i++) cells += lanes[i]->past > lanes[i]->len ? lanes[i]->past : lanes[i]->len;
    return cells;
}

bool batch_admits(int64_t cells, int64_t taken, int32_t n, int32_t len) {
    return n == 0 || taken + len + 1 + (int64_t)n * BATCH_HEADROOM <= cells;
}

int32_t batch_victim(const struct lane *const *lanes, int32_t n, int64_t cells) {
    return n < 2 || batch_cells(lanes, n) <= cells ? -1 : batch_youngest(lanes, n);
}

int32_t batch_youngest(const struct lane *const *lanes, int32_t n) {
    int32_t running = -1, parked = -1, n_running = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t *youngest = lanes[i]->parked ? &parked : &running;
        n_running += !lanes[i]->parked;
        if (*youngest < 0 || lanes[i]->serial > lanes[*youngest]->serial) *youngest = i;
    }
    return n_running > 1 || parked < 0 ? running : parked;
}
