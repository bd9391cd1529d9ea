#include "trust/replay.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES = 16, SLOTS_FIRST = 64 }; // of a digest, as many as nobody finds a second one for in minutes

struct slot {
    uint8_t key[KEY_BYTES];
    int64_t expires; // 0 = free
};

struct replay {
    struct slot *slots;
    size_t n_slots, n; // n_slots: a power of two, at least twice n
    int64_t forgotten; // the latest expiry of what was
};

struct replay *replay_new(void) {
    struct replay *r = calloc(1, sizeof *r);
    if (r) r->slots = calloc(SLOTS_FIRST, sizeof *r->slots);
    if (r && r->slots) {
        r->n_slots = SLOTS_FIRST;
        return r;
    }
    free(r);
    return NULL;
}

void replay_free(struct replay *r) {
    if (!r) return;
    free(r->slots);
    free(r);
}

size_t replay_count(const struct replay *r) { return r->n; }

// Where it is, or the free slot where it belongs.
static struct slot *find_slot(struct slot *slots, size_t n, const uint8_t key[KEY_BYTES]) {
    uint64_t at;
    memcpy(&at, key, sizeof at);
    while (slots[at & (n - 1)].expires && memcmp(slots[at & (n - 1)].key, key, KEY_BYTES) != 0) at++;
    return &slots[at & (n - 1)];
}

// Moves what has not expired into n slots.
static int rebuild(struct replay *r, size_t n, int64_t now) {
    struct slot *slots = calloc(n, sizeof *slots);
    if (!slots) return -1;
    r->n = 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        const struct slot *old = &r->slots[i];
        if (!old->expires) continue;
        if (old->expires > now) {
            *find_slot(slots, n, old->key) = *old;
            r->n++;
        } else if (old->expires > r->forgotten)
            r->forgotten = old->expires;
    }
    free(r->slots);
    r->slots = slots;
    r->n_slots = n;
    return 0;
}

// Forgets what it may first; grows where that leaves half of it in use.
static int make_room(struct replay *r, int64_t now) {
    if (2 * (r->n + 1) <= r->n_slots) return 0;
    if (rebuild(r, r->n_slots, now)) return -1;
    if (4 * r->n <= r->n_slots || r->n_slots >= 2 * REPLAY_MOST) return r->n < REPLAY_MOST ? 0 : -1;
    return rebuild(r, 2 * r->n_slots, now);
}

enum replay_answer replay_use(struct replay *r, const uint8_t digest[DIGEST_BYTES], int64_t expires, int64_t now) {
    if (expires <= r->forgotten || expires <= 0) return REPLAY_USED;
    if (find_slot(r->slots, r->n_slots, digest)->expires) return REPLAY_USED;
    if (make_room(r, now)) return REPLAY_FULL;
    if (expires <= r->forgotten) return REPLAY_USED; // what was forgotten just now expires no earlier
    struct slot *s = find_slot(r->slots, r->n_slots, digest);
    memcpy(s->key, digest, KEY_BYTES);
    s->expires = expires;
    r->n++;
    return REPLAY_FRESH;
}
