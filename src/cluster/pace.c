// How fast streams go over a link while the way is what they wait for. A link is busy from one parcel to the next where
// bytes have waited in its sockets all the time, or another wire was writing: bytes that left in such stretches, and
// the time of those, tell the pace. Time in which rows were only being computed, or credits were awaited, does not
// count, nor what sockets take at once.
#include "cluster/transfer_internal.h"

#include "base/clock.h"
#include "cluster/datalink.h"

#include <string.h>

enum { LEAST = 1 << 20, LEAST_FRAMES = 8, LEAST_MS = 20 }; // less says little

uint64_t pace_unsent_held(const struct link *l) {
    uint64_t n = 0;
    for (int i = 0; i < l->n_wires; i++)
        if (l->wires[i].up) n += datalink_unsent(l->wires[i].fd);
    return n;
}

// Takes what the stretch says up to its latest moment; it may go on from there.
static void harvest_held(struct pace *p) {
    uint64_t bytes = p->left > p->from_left ? p->left - p->from_left : 0, ns = p->at_ns - p->from_ns;
    if (bytes < LEAST + LEAST_FRAMES * p->frame || ns < LEAST_MS * NS_PER_MS) return;
    p->bytes += bytes;
    p->ns += ns;
    p->from_left = p->left;
    p->from_ns = p->at_ns;
}

void pace_taken_held(struct link *l, uint64_t bytes) {
    struct pace *p = &l->pace;
    uint64_t unsent = pace_unsent_held(l);
    bool busy = unsent || p->writers;
    if (!busy) harvest_held(p); // up to the last moment at which it was
    p->at_ns = clock_mono_ns();
    p->left = p->written > unsent ? p->written - unsent : 0;
    if (!busy) {
        p->from_left = p->left;
        p->from_ns = p->at_ns;
    }
    if (bytes > p->frame) p->frame = bytes;
    p->writers++;
}

void pace_sent_held(struct link *l, uint64_t bytes) {
    l->pace.writers--;
    l->pace.written += bytes;
}

bool transfers_pace(struct transfers *t, const char *node, uint64_t *bytes, uint64_t *ns) {
    *bytes = *ns = 0;
    pthread_mutex_lock(&t->lock);
    for (struct link *l = t->links; l; l = l->next) {
        if (strcmp(l->node, node) != 0) continue;
        harvest_held(&l->pace);
        *bytes += l->pace.bytes;
        *ns += l->pace.ns;
        l->pace.bytes = l->pace.ns = 0;
    }
    pthread_mutex_unlock(&t->lock);
    return *bytes && *ns;
}
