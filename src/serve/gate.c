#include "serve/gate.h"
#include "base/address.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/http_json.h"
#include "serve/authority.h"
#include "trust/roster.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LABEL_HEADER "x-nebulus-label"

bool caller_is_owner(const struct caller *who) { return !who->agent || agent_is_owner(who->agent); }
const char *caller_name(const struct caller *who) { return who->agent ? who->agent->name : POLICY_OWNER_AGENT; }
const char *caller_id(const struct caller *who) { return who->agent ? who->agent->id : POLICY_OWNER_AGENT; }

bool gate_admits(const struct caller *who, enum gate_access access) {
    return access != GATE_OWNER || caller_is_owner(who);
}

// ---------------------------------------------------------------- who calls
static bool is_local(const char *peer) {
    char host[SETTING_SIZE];
    long port;
    return peer && !address_split(peer, host, &port) && address_is_loopback(host);
}

// What stands behind "Bearer", or what is no key.
static const char *bearer(const char *authorization) {
    static const char scheme[] = "Bearer ";
    size_t n = sizeof scheme - 1;
    return strncasecmp(authorization, scheme, n) ? "" : authorization + n;
}

static void take_labels(struct caller *who) {
    who->n_labels = who->agent ? who->agent->n_labels : 0;
    if (who->n_labels) memcpy(who->labels, who->agent->labels, who->n_labels * sizeof *who->labels);
}

int gate_identify(const struct agents *agents, const struct gate_asked *asked, int64_t now, struct caller *out) {
    const char *key = asked->authorization ? bearer(asked->authorization) : asked->api_key;
    *out = (struct caller){.agent = NULL};
    if (!key) return is_local(asked->peer) ? 0 : -1;
    if (asked->authorization && asked->api_key && strcmp(key, asked->api_key) != 0) return -1;
    out->agent = agents ? agents_of_key(agents, key, now, &out->key) : NULL;
    if (!out->agent) return -1;
    take_labels(out);
    return 0;
}

static int add_label(struct caller *who, const char *label, size_t n, struct err *e) {
    char text[AGENT_NAME] = "";
    if (n < sizeof text) snprintf(text, sizeof text, "%.*s", (int)n, label);
    if (!roster_is_name(text)) return err_param(e, LABEL_HEADER, LABEL_HEADER " must be labels, separated by commas");
    for (size_t i = 0; i < who->n_labels; i++)
        if (!strcmp(who->labels[i], text)) return 0;
    if (who->n_labels == GATE_LABELS) return err_param(e, LABEL_HEADER, "a request has at most %d labels", GATE_LABELS);
    memcpy(who->labels[who->n_labels++], text, sizeof text);
    return 0;
}

int gate_label(struct caller *who, const char *header, struct err *e) {
    static const char blanks[] = " \t";
    for (;;) {
        header += strspn(header, blanks);
        size_t n = strcspn(header, ","), label = n;
        while (label && strchr(blanks, header[label - 1])) label--;
        if (add_label(who, header, label, e)) return -1;
        if (!header[n]) return 0;
        header += n + 1;
    }
}

// ---------------------------------------------------------------- as policies see it
static struct policy_names names_of(const char (*list)[AGENT_NAME], size_t n, const char **out) {
    for (size_t i = 0; i < n; i++) out[i] = list[i];
    return (struct policy_names){out, n};
}

static void add_lineage(struct gate_subject *out, const struct agent *g, bool by_own_labels) {
    size_t i = out->subject.n++;
    out->lineage[i] = (struct policy_agent){.id = g->name, .groups = names_of(g->groups, g->n_groups, out->groups[i])};
    if (by_own_labels) out->lineage[i].labels = names_of(g->labels, g->n_labels, out->labels[i]);
}

void gate_subject(const struct serve *s, const struct caller *who, struct gate_subject *out) {
    out->subject = authority_owner(s);
    out->subject.labels = names_of(who->labels, who->n_labels, out->asked);
    if (caller_is_owner(who)) return;
    out->subject.lineage = out->lineage;
    out->subject.n = 0;
    add_lineage(out, who->agent, false);
    if (who->n_labels > who->agent->n_labels) add_lineage(out, who->agent, true);
    for (const struct agent *up = who->agent->parent; up; up = up->parent) add_lineage(out, up, true);
}

// ---------------------------------------------------------------- answers
// Nothing in it depends on why.
static void refuse(const struct call *c) {
    log_debug("a request without a key that holds was refused");
    http_add_header(c->x, "www-authenticate", "Bearer");
    http_add_header(c->x, "x-should-retry", "false");
    metrics_answer(&c->s->metrics, "any", 401);
    http_reply_error(c->x, 401, "authentication_error", NULL, "invalid_api_key",
                     "a key of this node is needed (see `nebulus agent create`), in the header Authorization or "
                     "x-api-key");
}

// Labels that come in several lines are one list (RFC 9110, 5.3).
static int labels_of_request(const struct call *c, struct caller *who, struct err *e) {
    const char *labels;
    for (unsigned i = 0; (labels = http_header_at(c->x, LABEL_HEADER, i)); i++)
        if (gate_label(who, labels, e)) return -1;
    return 0;
}

// Whether a key is given twice, of which only one could be looked at.
static bool is_twice(const struct call *c) {
    return http_header_at(c->x, "authorization", 1) || http_header_at(c->x, "x-api-key", 1);
}

int gate_pass(const struct call *c, enum gate_access access, struct caller *out) {
    const struct gate_asked asked = {.authorization = http_header(c->x, "authorization"),
                                     .api_key = http_header(c->x, "x-api-key"),
                                     .peer = http_peer(c->x)};
    struct err why = {.code = ERR_NONE};
    if (is_twice(c) || gate_identify(c->s->agents, &asked, (int64_t)(clock_wall_ns() / NS_PER_S), out)) {
        refuse(c);
        return -1;
    }
    if (!gate_admits(out, access))
        err_set(&why, ERR_DENIED, "agents may not call this: it is the owner's, who needs no key on this machine");
    else if (!labels_of_request(c, out, &why))
        return 0;
    call_fail(c, &why);
    return -1;
}
