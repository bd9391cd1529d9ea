// What the parts of the daemon share. One per process, made by daemon.c. Threads: the event-loop thread only.
#pragma once

#include "net/http.h"
#include "serve/cluster.h"
#include "serve/metrics.h"
#include "serve/models.h"

struct agents;
struct authority;
struct discovery;
struct evidence;
struct links;
struct planner;
struct profiles;
struct spending;
struct tickets;
struct traces;
struct witness;

struct serve {
    struct event_base *base;
    struct http_server *http;
    struct settings settings;
    struct store store;
    struct models *models; // lives longer than http: questions are answered to the end
    struct cluster *cluster;
    struct authority *authority;
    struct agents *agents;     // who has keys
    struct spending *spending; // what agents have used of what the policy lets them
    struct evidence *evidence;
    struct witness *witness;
    struct tickets *tickets;
    struct discovery *discovery; // NULL: it is off
    struct links *links;
    struct planner *planner; // NULL: nothing is planned
    struct metrics metrics;
    struct traces *traces;
    struct profiles *profiles;
    TAILQ_HEAD(, course) courses;  // of the jobs that this daemon took
    TAILQ_HEAD(, site) sites;      // of this node's models
    TAILQ_HEAD(, remote) remotes;  // of jobs that this daemon took, on other nodes
    TAILQ_HEAD(, ordered) ordered; // by other nodes
    uint64_t remote_n;             // numbers of remotes, ever
    char host[SETTING_SIZE];       // where the API listens
    uint16_t port;
    bool stopping; // only what has begun is still answered
};

// An empty one: no models, no cluster, no jobs. Free what serve_close frees even after a failure.
int serve_init(struct serve *s, struct err *e) MUST_USE;
void serve_close(struct serve *s);
