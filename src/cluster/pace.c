// How fast streams go over a link while all its wires always have something to send: then the way and its two ends set
// the pace, and not the computing that makes the rows or the credits of the receiver.
#include "cluster/transfer_internal.h"

#include "base/clock.h"

#include <string.h>

enum { SKIP = 4 << 20, LEAST = 8 << 20 }; // bytes: sockets take the first ones at once; fewer than LEAST say little

static int wires_up(const struct link *l) {
    int n = 0;
    for (int i = 0; i < l->n_wires; i++) n += l->wires[i].up;
    return n;
}

// What the stretch so far says, once; it may go on.
static void harvest_held(struct link *l) {
    uint64_t bytes, ns;
    if (!l->full.warm || l->full.bytes - l->full.marked_bytes < LEAST || !rate_get(&l->full, &bytes, &ns)) return;
    l->paced_bytes += bytes;
    l->paced_ns += ns;
    l->full.marked_bytes = l->full.bytes;
    l->full.mark_ns = l->full.last_ns;
}

void pace_taken_held(struct link *l) {
    l->sending++;
    if (l->is_full || l->sending < wires_up(l)) return;
    l->is_full = true;
    rate_begin(&l->full, SKIP, UINT64_MAX);
}

void pace_sent_held(struct link *l, uint64_t bytes) {
    l->sending--;
    if (l->is_full) rate_add(&l->full, bytes, clock_mono_ns());
}

void pace_empty_held(struct link *l) {
    if (l->is_full) harvest_held(l);
    l->is_full = false;
}

bool transfers_pace(struct transfers *t, const char *node, uint64_t *bytes, uint64_t *ns) {
    *bytes = *ns = 0;
    pthread_mutex_lock(&t->lock);
    for (struct link *l = t->links; l; l = l->next) {
        if (strcmp(l->node, node) != 0) continue;
        if (l->is_full) harvest_held(l);
        *bytes += l->paced_bytes;
        *ns += l->paced_ns;
        l->paced_bytes = l->paced_ns = 0;
    }
    pthread_mutex_unlock(&t->lock);
    return *bytes && *ns;
}
