#include "discover/turn.h"
#include "discover/mdns_internal.h"

// The first claim of the sender of claims[i].
static size_t first_of_sender(const struct mdns_node *const claims[], size_t i) {
    size_t k = 0;
    while (!mdns_same_address(&claims[k]->from, &claims[i]->from)) k++;
    return k;
}

// Takes the turn of one of `n`, and leaves that of what it has.
static size_t deal(size_t *turn, size_t n) {
    size_t who = *turn % n;
    *turn /= n;
    return who;
}

struct turn turn_take(const struct mdns_node *const claims[], size_t n, size_t turn) {
    size_t senders[MDNS_SERVICES], own[MDNS_SERVICES], n_senders = 0, n_own = 0;
    if (n > MDNS_SERVICES) n = MDNS_SERVICES;
    for (size_t i = 0; i < n; i++)
        if (first_of_sender(claims, i) == i) senders[n_senders++] = i;
    size_t sender = senders[deal(&turn, n_senders)];
    for (size_t i = 0; i < n; i++)
        if (first_of_sender(claims, i) == sender) own[n_own++] = i;
    size_t claim = own[deal(&turn, n_own)];
    return (struct turn){.claim = claim, .place = deal(&turn, claims[claim]->n_places)};
}
