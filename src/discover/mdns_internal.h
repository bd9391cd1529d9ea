// What the parts of mdns share: mdns.c (its life, what comes in), own.c (own records), claim.c (probing, announcing),
// reply.c (answers), ask.c (questions), heard.c (what others say).
#pragma once

#include "base/clock.h"
#include "discover/mdns.h"

enum { ECHOES = 64, CONFLICTS_MOST = 15, ASK_MOST = 24, PERCENTS = 5, MDNS_PORT = 5353 };

// Kinds of own records: bits of a set.
enum own { OWN_ENUM, OWN_PTR, OWN_SRV, OWN_TXT, OWN_A, OWN_AAAA, OWN_NO_SERVICE, OWN_NO_HOST, OWN_KINDS };
#define OWN_SET(kind) (1u << (kind))
#define OWN_HOST      (OWN_SET(OWN_A) | OWN_SET(OWN_AAAA))
#define OWN_SERVICE   (OWN_SET(OWN_PTR) | OWN_SET(OWN_SRV) | OWN_SET(OWN_TXT))
#define OWN_SHARED    (OWN_SET(OWN_ENUM) | OWN_SET(OWN_PTR)) // others may have records of that name and type, too

enum claim { CLAIM_NONE, CLAIM_PROBE, CLAIM_ANNOUNCE, CLAIM_DONE };

// How long something heard stays true.
struct life {
    uint64_t heard_ns;
    uint32_t ttl_ms;  // 0: not heard, or over
    uint8_t families; // over which it came
    uint8_t asked;    // how many of PERCENTS have been asked for
    uint8_t jitter;   // thousandths of ttl, up to 20
};

struct heard {
    bool used, guest; // guest: it is not asked after, as there may be any number of them
    unsigned link;
    struct dns_name name;     // of the instance
    struct mdns_address from; // who named it first
    struct life ptr, srv, txt;
    struct dns_name host;
    uint16_t port;
    uint8_t text[DNS_RDATA];
    uint16_t text_len;
    bool there; // was complete once, and is
    uint64_t since_ns;
    bool complete;    // when it was looked at last
    uint64_t want_ns; // when what is missing is asked for
    uint8_t wanted;   // how often it was
};

struct heard_host {
    unsigned link;
    struct dns_name host;
    struct mdns_address address, from; // from: who told it first
    struct life life;
};

struct pending { // an answer that waits
    unsigned set, families;
    uint64_t due_ns, asked_ns; // asked_ns: by the latest question
    bool truncated;            // more known answers may come from `from`
    struct mdns_from from;
};

struct link {
    bool used;
    unsigned number;
    struct mdns_address own[MDNS_ADDRESSES];
    size_t n_own, n_told;
    // own records
    enum claim claim;
    unsigned step; // probes or announcements sent
    uint64_t due_ns;
    uint64_t sent_ns[2][OWN_KINDS]; // to the group, by family; 0: never
    struct pending pending;
    uint64_t unicast_ns; // begin of the second in which
    unsigned unicasts;   // so many answers went to single askers
    // questions
    uint64_t ask_ns, pause_ns;
    uint64_t asked_ns[2];      // by anyone, by family
    uint64_t second_ns;        // begin of the second in which
    size_t bytes[MDNS_SHARES]; // so many bytes came
    uint64_t deal;             // which sender has which share
};

struct mdns {
    struct mdns_io io;
    struct dns_name type, types, instance, host; // _nebulus._tcp.local, _services..., this node's
    bool publishing, left;
    struct about about;
    uint8_t text[ABOUT_TEXT];
    size_t text_len;
    uint16_t port;
    unsigned suffix; // of the instance's name; 0: none
    uint64_t conflict_ns;
    unsigned conflicts; // since conflict_ns
    struct link links[MDNS_LINKS];
    struct heard heard[MDNS_SERVICES];
    struct heard_host hosts[MDNS_HOSTS];
    uint64_t echoes[ECHOES]; // of the newest messages sent: they come back, over other interfaces too
    size_t n_echoes;
    struct mdns_counts counts;
};

// A message being made for a link. Full ones are sent, and another is begun.
struct mdns_out {
    struct mdns *m;
    unsigned link, families;
    struct dns_writer w;
};

// ---- mdns.c
void mdns_send(struct mdns *m, unsigned link, unsigned families, const struct mdns_from *to, struct dns_writer *w);
uint64_t mdns_between(struct mdns *m, unsigned least_ms, unsigned most_ms); // at random, in nanoseconds
uint64_t mdns_earlier(uint64_t a, uint64_t b);
struct link *mdns_find_link(struct mdns *m, unsigned number);
bool mdns_is_near(const struct link *l, const struct mdns_address *a); // it is of one of this link's networks
bool mdns_same_address(const struct mdns_address *a, const struct mdns_address *b);

// ---- own.c
void own_name(struct mdns *m);     // the instance's name, from about and suffix
void own_new_host(struct mdns *m); // another name of the host, at random
// The records of a kind on a link, into out (MDNS_ADDRESSES); returns how many.
size_t own_records(const struct mdns *m, const struct link *l, enum own kind, struct dns_record *out);
bool own_is_of(enum own kind, unsigned type); // whether records of a kind may be of this type
unsigned own_asked(const struct mdns *m, const struct link *l, const struct dns_question *q); // which are the answer
unsigned own_beside(unsigned set); // what is to stand beside these answers (RFC 6763 section 12)

// ---- claim.c
void claim_restart(struct mdns *m, struct link *l, uint64_t now_ns);
void claim_announce(struct mdns *m, struct link *l, uint64_t now_ns); // that something is new
void claim_response(struct mdns *m, struct link *l, struct dns_reader *r, uint64_t now_ns);
void claim_probe_heard(struct mdns *m, struct link *l, struct dns_reader *r, uint64_t now_ns);
void claim_goodbye(struct mdns *m, struct link *l, uint64_t now_ns);
uint64_t claim_run(struct mdns *m, struct link *l, uint64_t now_ns);

// ---- reply.c
void reply_query(struct mdns *m, struct link *l, const struct mdns_from *from, struct dns_reader *r, uint64_t now_ns);
void reply_heard(struct mdns *m, struct link *l, struct dns_reader *r); // another one's answer may make ours needless
void reply_send(struct mdns *m, struct link *l, unsigned families, unsigned set, uint32_t ttl, uint64_t now_ns);
uint64_t reply_run(struct mdns *m, struct link *l, uint64_t now_ns);

// ---- ask.c
void ask_restart(struct mdns *m, struct link *l, uint64_t now_ns);
void ask_heard(struct mdns *m, struct link *l, unsigned family, struct dns_reader *r, uint64_t now_ns);
uint64_t ask_run(struct mdns *m, struct link *l, uint64_t now_ns);

// ---- heard.c
void heard_response(struct mdns *m, struct link *l, const struct mdns_address *from, struct dns_reader *r,
                    uint64_t now_ns);
void heard_unlink(struct mdns *m, unsigned link, uint64_t now_ns);
uint64_t heard_run(struct mdns *m, uint64_t now_ns); // ends what is over
// How long it lives, where that is three quarters of its time or more (section 7.1: half), else 0.
uint64_t heard_known_ms(const struct heard *h, uint64_t now_ns);
bool heard_knows(const struct mdns *m, unsigned link, const struct dns_name *instance, uint64_t now_ns);
uint64_t life_end(const struct life *life); // MDNS_NEVER where there is none
