// Where connections of unknown machines come from, so that one address cannot take what is there for all. Pure; any
// thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { ORIGINS = 128 };

// What one owner has: an IPv4 address, or the first 64 bits of an IPv6 one. 0 = unknown.
uint64_t origin_of(const struct sockaddr *a);
uint64_t origin_of_peer(int fd); // of the other end of a connected socket

// Who has come lately. All zeros is empty.
struct origins {
    struct {
        uint64_t origin, due_ns;
    } of[ORIGINS];
};
// Whether one more may come now: LIMIT_PEER_BURST at once, LIMIT_PEER_RATE a second in the long run (the generic cell
// rate algorithm of ITU-T I.371; what does not pass does not count). Of more origins than ORIGINS at a time the one
// that would pass soonest is forgotten.
bool origins_pass(struct origins *o, uint64_t origin, uint64_t now_ns);
