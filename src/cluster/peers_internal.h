// What peers.c (members), accept.c (who comes), dial.c (where this node goes) and control_link.c (one link) share.
#pragma once

#include "base/buf.h"
#include "base/limits.h"
#include "cluster/linkmsg.h"
#include "cluster/origin.h"
#include "cluster/peers.h"
#include "cluster/reach.h"
#include <event2/event.h>
#include <event2/listener.h>

enum { PEERS_PROBES = 8, PEERS_HOST = 256, PEERS_FROM = 64 };

// A TLS_CONTROL connection with a member, handshaken.
enum control_state {
    CONTROL_GREETING, // this side has said hello
    CONTROL_GREETED,  // the other one too; the smaller id has the word
    CONTROL_UP,
    CONTROL_REFUSED, // the other side has been told so, and is to close
    CONTROL_CLOSED,  // in peers.dead
};

struct control {
    struct member *member;
    struct control *next; // in member.controls or peers.dead
    struct bufferevent *bev;
    struct buf in;
    uint64_t frame_ns;      // since then its first frame is on its way; 0 = none is
    struct event *deadline; // of the greeting; once up, of silence
    struct event *beat;
    enum control_state state;
    bool dialled;   // by this side
    bool doubted;   // silent for too long, as far as this process has listened
    uint64_t link;  // its number, once up
    uint64_t boot;  // the other side's, once greeted
    json_t *about;  // likewise
    uint64_t beats; // sent
    struct {
        uint64_t sent_ns, rtt_ns;
    } probes[PEERS_PROBES]; // of beat n at n % PEERS_PROBES; 0 = none, not answered
};

struct dial {
    struct event *timer; // the pause before a try
    struct reach *reach; // a try
    long pause_ms;       // the next pause
};

struct member {
    struct peer pub;
    struct peers *peers;
    struct member *next;
    struct dial dial;
    struct control *controls; // those that are not closed
    struct control *link;     // the one that is up
    uint64_t origin;          // where its newest link came from
    uint64_t lost;            // the number of the newest link that ended
    uint64_t barred_ns;       // until then no link: it has broken the protocol
    bool removed;
    bool told_up;      // `up` was told; `down` was not, since
    struct err ended;  // why, where told_up and the link is down
    struct err logged; // the newest reason, as it was logged
    json_t *about;     // pub.hello
};

// An incoming connection before the end of its handshake.
struct incoming {
    struct incoming *next;
    struct peers *peers;
    struct bufferevent *bev;
    struct event *deadline;
    uint64_t origin;
    char from[PEERS_FROM];
};

struct peers {
    struct event_base *base;
    struct peers_options o;
    struct peers_events ev;
    struct peers_timing timing;
    uint8_t pin[TLS_PIN]; // this node's
    uint64_t boot;
    struct member *members, *left; // left: removed, to be told of and freed
    struct control *dead;          // to be freed
    struct event *work;            // what may not happen inside a call
    struct evconnlistener *listeners[LIMIT_PEER_LISTENERS];
    size_t n_listeners;
    struct event *resume;
    struct incoming *incoming; // the oldest first
    struct origins origins;
    unsigned refused;    // machines since the latest line about them
    uint64_t refused_ns; // of that line
    int depth;           // callbacks of the event loop that are under way
    bool freed;          // peers_free was called in one of them
};

struct timeval peers_time(long ms);
// Around everything the loop calls: between the two no memory of p is freed, whatever the user's callbacks do.
void peers_enter(struct peers *p);
void peers_leave(struct peers *p);
void peers_work_soon(struct peers *p);
struct member *peers_member_of(const struct peers *p, const uint8_t pin[TLS_PIN]);

void member_why(struct member *m, const struct err *why); // why it is down; logged where it is news
void member_tell_down(struct member *m);                  // where it is due

// ---- control_link.c
// Takes bev over, also when it fails, and says hello.
void control_open(struct member *m, struct bufferevent *bev, bool dialled);
// why: NULL where it is superfluous, and nobody's fault. Its memory stays until the loop's next round.
void control_close(struct control *c, const struct err *why);
void control_free(struct control *c);
int control_send(struct control *c, const json_t *msg, struct err *e) MUST_USE;

// ---- dial.c
int dial_init(struct member *m) MUST_USE;
void dial_free(struct member *m);
void dial_soon(struct member *m); // after the pause; not where a connection is there or under way
void dial_now(struct member *m);  // the same, without a pause
void dial_stop(struct member *m);

// ---- accept.c
int accept_init(struct peers *p, struct err *e) MUST_USE;
void accept_free(struct peers *p);
