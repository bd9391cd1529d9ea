// Whose address is tried next, of nodes that all claim to be the same one. Any claim may be a lie, and a liar may make
// as many as it likes: therefore the senders of claims take turns, then the claims of a sender, then the addresses of a
// claim, and each address comes up again and again, however many others there are. Pure. Threads: any.
#pragma once

#include "discover/mdns.h"

struct turn {
    size_t claim, place;
};

// turn: 0, 1, 2 and so on. Every claim has a place; n > 0.
struct turn turn_take(const struct mdns_node *const claims[], size_t n, size_t turn);
