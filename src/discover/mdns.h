// Multicast DNS for one service type, _nebulus._tcp: this node's own instance is claimed, announced, defended and taken
// back (RFC 6762 sections 6 to 10), others' are heard and kept fresh (section 5). State machines without clock,
// randomness or sockets of their own. Threads: one.
//
// Every record lives MDNS_TTL_S seconds, so that a node which is killed is missed within that. The price: each node
// that listens asks one question for all of them every 15 seconds or so (and stays silent where another one just
// has), each node answers it once: on a link with n nodes about 4 (n + 1) packets a minute.
//
// Hearsay is kept fairly: of the places for instances and for addresses, and of the bytes that are looked at, whoever
// sends gets a share by the address that it sends from. So a flood changes nothing for others, unless it forges about
// as many addresses as there are places; then it hides none of those that were there before, and newcomers take turns
// with the forged ones as guests: each of them takes the place of a guest by chance, so that whoever goes on saying
// that it is there is heard now and then. An address counts only where it is of this link, or the one that tells it.
//
// What deviates from RFC 6762: probes do not ask for unicast answers, which would reach only one of the responders of a
// host (section 15.1); while nobody is found, questions are at most MDNS_ASK_MOST_S apart instead of an hour, so that
// nodes that were cut off from each other find each other soon.
#pragma once

#include "discover/about.h"

enum {
    MDNS_TTL_S = 20,
    MDNS_LINKS = 16,       // interfaces
    MDNS_ADDRESSES = 8,    // of this node on one interface; of another node
    MDNS_SERVICES = 160,   // instances heard, on all interfaces; beyond, no others
    MDNS_HOSTS = 544,      // addresses heard
    MDNS_GUESTS = 32,      // of both: the first places, for those who get no other one
    MDNS_TTL_MOST_S = 120, // what others claim beyond it is not believed
    MDNS_ASK_MOST_S = 60,
    MDNS_GONE_S = 600,       // how long one that is gone is remembered
    MDNS_SHARES = 8,         // of senders, by their addresses
    MDNS_BYTES_S = 32 << 10, // that are looked at in a second, per interface and share
    MDNS_UNICASTS = 10,      // answers to single askers in a second, per interface
    MDNS_LABEL = 48,         // bytes of a name that instances are called by, with the NUL: there is room for " (1234)"
};
#define MDNS_NEVER UINT64_MAX

enum { MDNS_FOUR = 1, MDNS_SIX = 2, MDNS_BOTH = 3 };
struct mdns_address {
    uint8_t family; // MDNS_FOUR or MDNS_SIX
    uint8_t prefix; // bits of the network; of this node's own addresses
    uint8_t ip[16]; // MDNS_FOUR: the first four bytes
};
struct mdns_from {
    struct mdns_address address;
    uint16_t port;
};

struct mdns_io {
    // To the group of each of the families, or - where `to` is given - to one asker.
    void (*send)(void *arg, unsigned link, unsigned families, const struct mdns_from *to, const void *data, size_t n);
    uint32_t (*random)(void *arg);
    void *arg;
};

struct mdns;
struct mdns *mdns_new(const struct mdns_io *io); // NULL when out of memory; free() frees it

// What this node says of itself; about NULL: nothing, it only listens. Nothing happens where that is as it was. Its
// instance is called by about->name, or "NAME (2)" and so on where that is taken.
void mdns_publish(struct mdns *m, const struct about *about, uint16_t port, uint64_t now_ns);
void mdns_goodbye(struct mdns *m, uint64_t now_ns); // sends that it goes; nothing is sent after that

// An interface (its number) is there, with these addresses of this node, of which those to be told have `told` set by
// order: the first n_told. Calling it again changes them.
void mdns_link(struct mdns *m, unsigned link, const struct mdns_address *own, size_t n, size_t n_told, uint64_t now_ns);
void mdns_unlink(struct mdns *m, unsigned link, uint64_t now_ns);
void mdns_wake(struct mdns *m, uint64_t now_ns); // the machine has slept: everything is claimed and asked anew

void mdns_receive(struct mdns *m, unsigned link, const struct mdns_from *from, const void *data, size_t n,
                  uint64_t now_ns);
uint64_t mdns_run(struct mdns *m, uint64_t now_ns); // does what is due; returns when something will be, or MDNS_NEVER

// ---------------------------------------------------------------- what is heard
struct mdns_place {
    unsigned link;
    struct mdns_address address;
};
struct mdns_node {
    char label[DNS_LABEL + 1]; // of its instance, as it came; NULs as blanks
    struct about about;        // as it came
    uint16_t port;             // 0: it takes no connections
    struct mdns_address from;  // who named it first
    struct mdns_place places[MDNS_ADDRESSES];
    size_t n_places;
    bool gone;
    uint64_t since_ns; // of being there, or gone
};
// Those that are there, and those that are gone since less than MDNS_GONE_S, one entry for all interfaces: at most max.
size_t mdns_nodes(const struct mdns *m, struct mdns_node *out, size_t max);
struct mdns_counts {
    uint64_t sent, received, malformed, refused; // refused: no room, too many at once, or of elsewhere
    bool claimed;                                // this node's name is its own on every interface
    char label[DNS_LABEL + 1];
};
void mdns_count(const struct mdns *m, struct mdns_counts *out);
