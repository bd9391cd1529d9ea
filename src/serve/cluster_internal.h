// What the files of the membership share: cluster.c (its life), membership.c (the file, the roster's changes), gossip.c
// (the links' messages), invite.c and join.c (pairing), locate.c (addresses), cluster_routes.c.
#pragma once

#include "base/clock.h"
#include "base/limits.h"
#include "cluster/reach.h"
#include "serve/call.h"
#include "serve/cluster.h"
#include "serve/cluster_routes.h"
#include "serve/pair_link.h"
#include "trust/pairing.h"
#include "trust/ticket.h"
#include <sys/queue.h>

enum { CLUSTER_TICK_MS = 1000, CLUSTER_REACH_MS = 4000, CLUSTER_PARTING_MS = 500 };

// What is known about another member beside its link.
struct note {
    char id[IDENTITY_ID];    // "" = free
    char session[TICKET_ID]; // of its daemon, as long as about is there
    bool left;               // it said so
    bool absurd;             // it told an absurd profile or link, which was logged
    json_t *about; // {version, epoch, digest, models, links}, the newest; NULL = nothing was said since its link is up
    uint64_t down_ns; // since when its link is down; 0 = never was up, or is
};

struct invitation;
struct joining;
struct leaving;

struct cluster {
    struct serve *s;
    char state_dir[PATH_SIZE], file[PATH_SIZE];
    char host[SETTING_SIZE]; // where other nodes connect; "" = nowhere
    long port;
    char name[ROSTER_NAME]; // from the settings or the host; the roster's word counts for a member
    char statics[LIMIT_STATIC_PEERS][ROSTER_ADDRESS];
    size_t n_statics, next_static, next_candidate;
    bool discovered_next;  // whose turn it is: a static address, or one that was discovered
    struct reach *looking; // who answers at looking_at
    char looking_at[ROSTER_ADDRESS];

    int lock; // descriptor; -1 = not this daemon's
    struct identity identity;
    struct tls *tls; // NULL: the identity is not open either
    struct peers *peers;
    struct transfers *transfers;
    struct roster *roster; // NULL: no member
    bool unsaved;          // the file has an older one
    struct note notes[ROSTER_NODES];
    bool listening;
    struct err trouble;     // why it takes no part although it should, or was put out; ERR_NONE
    struct err no_listener; // why it does not listen although it should
    struct err alarm;       // two rosters of one epoch: nothing changes any more

    struct cluster_events ev;
    void *arg;
    struct event *tick, *parting;
    char *told; // the models and links that were told last, as a text

    TAILQ_HEAD(, invitation) invitations;
    TAILQ_HEAD(, guest) guests;
    struct pair_links lingering;
    unsigned invitation_s; // LIMIT_INVITATION_SECONDS but in tests
    struct {
        char id[PAIRING_ID];
        const char *how; // static
    } past[LIMIT_INVITATIONS_PAST];
    size_t n_past; // ever; the index is modulo
    struct joining *joining;
    struct leaving *leaving;
};

// ---- cluster.c
int cluster_prepare(struct cluster *c, struct err *e) MUST_USE; // lock, identity, TLS: what pairing needs
int cluster_links(struct cluster *c, struct err *e) MUST_USE;   // peers and transfers, once
void cluster_try_listen(struct cluster *c);

// ---- membership.c
int membership_load(struct cluster *c, struct err *e) MUST_USE; // 0 also where there is none
bool membership_kept(const struct cluster *c);                  // whether there is a file
// Takes r over, also when it fails: the first roster of this node's membership. ERR_BUSY where it has one.
int membership_begin(struct cluster *c, struct roster *r, struct err *e) MUST_USE;
// Takes r over: a newer roster than ours is kept, obeyed and spread (not to `from`, which may be NULL; one that comes
// from there is obeyed also while it cannot be kept, and membership_keep tries that again). An older one fails with
// ERR_BUSY; a second of one epoch raises the alarm.
int membership_adopt(struct cluster *c, struct roster *r, const struct peer *from, struct err *e) MUST_USE;
void membership_keep(struct cluster *c);
void membership_end(struct cluster *c);                 // forgets it; links stay for CLUSTER_PARTING_MS
int membership_left(struct cluster *c, const char *id); // another node has left
struct note *membership_note(struct cluster *c, const char *id, bool make); // NULL: none
void membership_drop_strangers(struct cluster *c); // links to nodes that are not, or not any more, members
int membership_check(const struct cluster *c, struct err *e) MUST_USE; // fails where this node is no member

// ---- gossip.c
json_t *gossip_about(const struct cluster *c); // what hello says
void gossip_up(struct cluster *c, const struct peer *p);
void gossip_message(struct cluster *c, const struct peer *p, const json_t *msg);
void gossip_roster(struct cluster *c, const struct peer *from); // to all but `from`
void gossip_state(struct cluster *c);                           // what this node has, to all
void gossip_changes(struct cluster *c);                         // where that is another than the last time
void gossip_left(struct cluster *c);                            // this node leaves

// ---- invite.c
void invite_guest(struct cluster *c, struct bufferevent *bev); // takes bev over
void invite_roster_changed(struct cluster *c);
void invite_end_all(struct cluster *c);

// ---- join.c
void join_end(struct cluster *c); // where one is under way

// ---- leave.c
void leave_end(struct cluster *c);

// ---- locate.c
int locate_settings(struct cluster *c, const struct settings *s, struct err *e) MUST_USE;
// HOST:PORTs under which other machines may reach this node; at least one. Returns how many.
size_t locate_own(const struct cluster *c, char out[][ROSTER_ADDRESS], size_t max);
void locate_members(struct cluster *c); // one step of finding out who answers at static and discovered addresses
