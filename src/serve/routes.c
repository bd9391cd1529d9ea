#include "serve/routes.h"
#include "base/address.h"
#include "net/http_json.h"
#include "serve/agents_routes.h"
#include "serve/authority.h"
#include "serve/cluster_routes.h"
#include "serve/drain.h"
#include "serve/evidence.h"
#include "serve/gate.h"
#include "serve/job.h"
#include "serve/link_routes.h"
#include "serve/load.h"
#include "serve/plan_routes.h"
#include "serve/profiles.h"
#include "serve/spending.h"
#include "serve/status.h"
#include "serve/traces.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct route {
    const char *method, *path; // a path that ends in '/' stands for all below it
    void (*handle)(const struct call *c);
    enum gate_access access;
} routes[] = {
    {"POST", "/v1/chat/completions", job_chat, GATE_AGENTS},
    {"POST", "/v1/completions", job_completion, GATE_AGENTS},
    {"GET", "/v1/models", status_models, GATE_AGENTS},
    {"GET", "/v1/models/", status_one_model, GATE_AGENTS},
    {"GET", "/nebulus/v1/status", status_show, GATE_OWNER},
    {"GET", "/nebulus/v1/traces/", traces_show, GATE_OWNER},
    {"GET", "/nebulus/v1/profile", profiles_show, GATE_OWNER},
    {"POST", "/nebulus/v1/profile", profiles_start, GATE_OWNER},
    {"POST", "/nebulus/v1/plan", plan_show, GATE_OWNER},
    {"GET", "/nebulus/v1/receipts/", evidence_receipt, GATE_AGENTS},
    {"POST", "/nebulus/v1/audit/recover", evidence_recover, GATE_OWNER},
    {"GET", "/nebulus/v1/policy", authority_show, GATE_OWNER},
    {"POST", "/nebulus/v1/policy", authority_apply, GATE_OWNER},
    {"POST", "/nebulus/v1/can-i", authority_can_i, GATE_OWNER},
    {"POST", "/nebulus/v1/load", load_start, GATE_OWNER},
    {"POST", "/nebulus/v1/stop", status_stop, GATE_OWNER},
    {"POST", "/nebulus/v1/drain", drain_start, GATE_OWNER},
    {"GET", "/health", status_health, GATE_OPEN},
    {"GET", "/metrics", status_metrics, GATE_OWNER},
    {"POST", "/nebulus/v1/links/", links_bench, GATE_OWNER},
    {"GET", "/nebulus/v1/agents", agents_list, GATE_OWNER},
    {"POST", "/nebulus/v1/agents", agents_make, GATE_OWNER},
    {"GET", "/nebulus/v1/agents/", agents_show, GATE_OWNER},
    {"POST", "/nebulus/v1/agents/", agents_change, GATE_OWNER},
    {"GET", "/nebulus/v1/budget", spending_show, GATE_AGENTS},
    {"GET", "/nebulus/v1/budget/", spending_show_one, GATE_AGENTS},
    {"GET", "/nebulus/v1/nodes", cluster_show_nodes, GATE_OWNER},
    {"GET", "/nebulus/v1/cluster/roster", cluster_show_roster, GATE_OWNER},
    {"POST", "/nebulus/v1/cluster/adopt", cluster_take_roster, GATE_OWNER},
    {"POST", "/nebulus/v1/cluster/self", cluster_show_self, GATE_OWNER},
    {"POST", "/nebulus/v1/cluster/found", cluster_found, GATE_OWNER},
    {"POST", "/nebulus/v1/cluster/invite", invite_open, GATE_OWNER},
    {"POST", "/nebulus/v1/cluster/join", join_start, GATE_OWNER},
    {"POST", "/nebulus/v1/cluster/leave", leave_start, GATE_OWNER},
};

static bool is_at(const struct route *r, const char *path) {
    size_t n = strlen(r->path);
    bool below = r->path[n - 1] == '/' && !strncmp(path, r->path, n) && path[n];
    return below || !strcmp(path, r->path);
}

// A path may have a route for each method; where there is none for this one, that of another.
static const struct route *find_route(const char *method, const char *path) {
    const struct route *found = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!is_at(&routes[i], path)) continue;
        if (!strcmp(method, routes[i].method)) return &routes[i];
        if (!found) found = &routes[i];
    }
    return found;
}

// What the path takes.
static const char *allowed(const char *path) {
    const struct route *get = find_route("GET", path), *post = find_route("POST", path);
    if (get != post) return "GET, HEAD, POST, OPTIONS";
    return get->method[0] == 'G' ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

static void refuse(const struct call *c, int status, const char *type, const char *code, const char *message) {
    metrics_answer(&c->s->metrics, c->route, status);
    http_reply_error(c->x, status, type, NULL, code, message);
}

// Keeps web pages of other origins out, also those whose name was made to point here (DNS rebinding).
static int check_origin(const struct call *c, struct err *e) {
    const char *host = http_header(c->x, "host"), *origin = http_header(c->x, "origin");
    char name[SETTING_SIZE];
    long port;
    if (!host || address_split(host, name, &port) || (!address_is_loopback(name) && strcasecmp(name, c->s->host) != 0))
        return err_set(e, ERR_DENIED, "the Host header does not name this daemon: use http://localhost:%u",
                       (unsigned)c->s->port);
    if (origin && (strncmp(origin, "http://", 7) != 0 || strcasecmp(origin + 7, host) != 0))
        return err_set(e, ERR_DENIED, "requests from web pages of other origins are not allowed");
    return 0;
}

static void answer_options(const struct call *c, const char *allow) {
    http_add_header(c->x, "allow", allow);
    metrics_answer(&c->s->metrics, c->route, 204);
    http_reply(c->x, 204, NULL, NULL, 0);
}

// The route's handler, or the answer that there is none.
static void dispatch(const struct call *c, const struct route *r) {
    const char *method = http_method(c->x);
    if (!r) {
        refuse(c, 404, "invalid_request_error", "not_found", "there is nothing at this path");
        return;
    }
    const char *allow = allowed(http_path(c->x));
    bool is_head = !strcmp(method, "HEAD") && r->method[0] == 'G';
    if (!strcmp(method, "OPTIONS"))
        answer_options(c, allow);
    else if (strcmp(method, r->method) != 0 && !is_head) {
        http_add_header(c->x, "allow", allow);
        refuse(c, 405, "invalid_request_error", "method_not_allowed", "this path does not take that method");
    } else if (c->s->stopping && r->method[0] == 'P')
        refuse(c, 503, "server_error", "stopping", "the daemon is shutting down");
    else
        r->handle(c);
}

const char *routes_at(size_t i, const char **method, enum gate_access *access) {
    if (i >= sizeof routes / sizeof *routes) return NULL;
    *method = routes[i].method;
    *access = routes[i].access;
    return routes[i].path;
}

void routes_handle(struct http_exchange *x, void *arg) {
    const struct route *r = find_route(http_method(x), http_path(x));
    enum gate_access access = r ? r->access : GATE_AGENTS; // of what is nowhere, strangers do not even hear that
    struct caller who;
    struct call c = {.s = arg, .x = x, .route = r ? r->path : "other", .who = &who};
    struct err why;
    if (check_origin(&c, &why))
        call_fail(&c, &why);
    else if (access == GATE_OPEN || !gate_pass(&c, access, &who))
        dispatch(&c, r);
}
