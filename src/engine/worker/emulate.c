#include "engine/worker/emulate.h"
#include "base/clock.h"

#include <math.h>
#include <time.h>

static const uint64_t LOOK_NS = 5 * NS_PER_MS;

void emulate_init(struct emulate *m, const struct profile *p, int32_t layers) {
    *m = (struct emulate){.profile = *p, .layers = layers > 0 ? layers : 1};
}

// ---------------------------------------------------------------- what a pass costs
void emulate_prompt(const struct emulate *m, struct emulate_work *w, int32_t count, int32_t past, bool ends) {
    w->seconds += prefill_seconds(&m->profile, count, past) - m->profile.prefill_base;
    w->ends |= ends;
}

void emulate_token(const struct emulate *m, struct emulate_work *w, int32_t past) {
    w->seconds += m->profile.decode_token * past;
    w->generates = true;
}

double emulate_seconds(const struct emulate *m, const struct emulate_work *w) {
    return w->seconds + fmax(w->ends ? m->profile.prefill_base : 0, w->generates ? m->profile.decode_base : 0);
}

// ---------------------------------------------------------------- when
void emulate_rest(struct emulate *m) { m->chained = false; }

void emulate_begin(struct emulate *m, uint64_t now, double seconds) {
    bool follows = m->chained && now <= m->due + EMULATE_LATE_NS;
    m->begun = follows && m->due < now ? m->due : now; // an abandoned pass ends before it is due
    m->due = m->begun + (uint64_t)(seconds * (double)NS_PER_S);
    m->resumed = now;
    m->layer = -1;
    m->chained = true;
}

uint64_t emulate_layer(struct emulate *m, int32_t layer, uint64_t now) {
    if (layer <= m->layer) return 0;
    double share = fmin(1, (layer + 1.0) / m->layers), whole = (double)(m->due - m->begun);
    double real = m->layer < 0 ? 0 : fmin((double)(now - m->resumed) / (layer - m->layer), whole / m->layers);
    m->layer = layer;
    return m->begun + (uint64_t)fmax(0, whole * share - real);
}

void emulate_resumed(struct emulate *m, uint64_t now) { m->resumed = now; }

double emulate_end(struct emulate *m, uint64_t began, uint64_t now) {
    if (now <= m->due + EMULATE_LATE_NS) return 0;
    return (double)(now - began) / fmax((double)(m->due - m->begun), 1);
}

// ---------------------------------------------------------------- waiting
void emulate_wait(uint64_t due, bool (*stop)(void *arg), void *arg) {
    for (uint64_t now = clock_mono_ns(); now < due && !stop(arg); now = clock_mono_ns()) {
        uint64_t until = due - now > LOOK_NS ? now + LOOK_NS : due, ns = until - now;
        nanosleep(&(struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)}, NULL);
    }
}
