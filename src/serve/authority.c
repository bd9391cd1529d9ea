#include "serve/authority.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/cluster.h"
#include "serve/evidence.h"
#include "serve/node.h"
#include "trust/policy_tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLOCK_SET_S 1735689600 // the beginning of 2025: before, nobody has set this clock

struct authority {
    struct policy *builtin, *nothing; // what holds without a document, and where it cannot be read
    struct policy *own;               // of the home; NULL: none
    struct err trouble;               // why the home's cannot be read
    char dir[PATH_SIZE], file[PATH_SIZE];
    uint8_t said[DIGEST_BYTES]; // the policy that the log has named last
};

// ---------------------------------------------------------------- the home's document
static struct policy *forbid_all(struct err *e) {
    static const char text[] = "{\"v\":1,\"rules\":[{\"id\":\"unreadable-policy\",\"effect\":\"forbid\"}]}";
    return policy_read(text, sizeof text - 1, e);
}

static void load(struct authority *a) {
    char *text;
    size_t n;
    struct err why = {.code = ERR_NONE};
    if (!file_read(a->file, POLICY_BYTES, &text, &n, &why)) {
        a->own = policy_read(text, n, &why);
        free(text);
    } else if (why.code == ERR_NOT_FOUND)
        return;
    if (a->own) return;
    a->trouble = why;
    log_error("%s cannot be read, so that nothing is permitted: %s", a->file, why.msg);
}

struct authority *authority_new(const struct paths *p, struct err *e) {
    struct authority *a = calloc(1, sizeof *a);
    if (!a) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    snprintf(a->dir, sizeof a->dir, "%s", p->state);
    if (path_join(a->file, p->state, "policy.json", e) || !(a->builtin = policy_builtin(e)) ||
        !(a->nothing = forbid_all(e))) {
        authority_free(a);
        return NULL;
    }
    memcpy(a->said, policy_digest(a->builtin), sizeof a->said);
    load(a);
    return a;
}

void authority_free(struct authority *a) {
    if (!a) return;
    policy_free(a->builtin);
    policy_free(a->nothing);
    policy_free(a->own);
    free(a);
}

const struct policy *authority_policy(const struct serve *s) {
    const struct authority *a = s->authority;
    const struct roster *r = cluster_roster(s->cluster);
    if (r) return r->policy ? r->policy : a->builtin;
    if (a->trouble.code) return a->nothing;
    return a->own ? a->own : a->builtin;
}

void authority_changed(const struct serve *s) {
    if (!s->authority) return; // still starting
    evidence_changed(s);
    const struct policy *p = authority_policy(s);
    char hex[2 * DIGEST_BYTES + 1];
    if (!memcmp(s->authority->said, policy_digest(p), DIGEST_BYTES)) return;
    memcpy(s->authority->said, policy_digest(p), DIGEST_BYTES);
    hex_encode(policy_digest(p), DIGEST_BYTES, hex);
    if (p == s->authority->builtin)
        log_info("no policy is in force: only the owner may run anything");
    else
        log_info("the policy %.16s is in force: %zu rules", hex, policy_rules(p));
}

int authority_keep(const struct serve *s, struct policy *p, struct err *e) {
    struct authority *a = s->authority;
    size_t n;
    const char *text = policy_text(p, &n);
    if (policy_tests_pass(p, e) || path_make_dir(a->dir, e) || file_write(a->file, text, n, e)) {
        policy_free(p);
        return -1;
    }
    policy_free(a->own);
    a->own = p;
    a->trouble = (struct err){.code = ERR_NONE};
    authority_changed(s);
    return 0;
}

const char *authority_trouble(const struct serve *s) {
    return !cluster_roster(s->cluster) && s->authority->trouble.code ? s->authority->trouble.msg : NULL;
}

bool authority_is_builtin(const struct serve *s) { return authority_policy(s) == s->authority->builtin; }

// ---------------------------------------------------------------- who, when, where
struct policy_time authority_now(void) {
    time_t now = (time_t)(clock_wall_ns() / NS_PER_S);
    struct tm local;
    if (now < CLOCK_SET_S || !localtime_r(&now, &local)) return (struct policy_time){.known = false};
    return (struct policy_time){
        .known = true, .day = (local.tm_wday + 6) % 7, .minute = local.tm_hour * 60 + local.tm_min};
}

struct policy_subject authority_owner(const struct serve *s) {
    static const char *const none[1];
    static const struct policy_agent owner = {.id = POLICY_OWNER_AGENT, .groups = {none, 0}};
    return (struct policy_subject){
        .lineage = &owner, .n = 1, .labels = {none, 0}, .gateway = node_self(s), .when = authority_now()};
}

void authority_look(const struct serve *s, const struct policy_subject *who, struct authority_look *out) {
    static const struct policy_subject nobody = {.n = 0};
    out->s = s;
    policy_view(authority_policy(s), who ? who : &nobody, &out->view);
}

void authority_spot(const struct authority_look *l, const char *node, struct policy_spot *out) {
    const struct roster *r = cluster_roster(l->s->cluster);
    const struct roster_node *member = r ? roster_find(r, node) : NULL;
    const char *labels[ROSTER_LABELS] = {NULL};
    struct policy_node known = {.id = node, .labels = {labels, 0}};
    if (member) {
        known.name = member->name;
        for (; known.labels.n < member->n_labels; known.labels.n++)
            labels[known.labels.n] = member->labels[known.labels.n];
    } else if (!r && node_is_self(l->s, node))
        known.name = cluster_own_name(l->s->cluster);
    policy_view_node(&l->view, known.name ? &known : NULL, out);
}

// ---------------------------------------------------------------- decisions
void authority_decide(const struct authority_look *l, enum policy_phase phase, const char *node,
                      struct policy_decision *out) {
    struct policy_spot spot;
    authority_spot(l, node, &spot);
    policy_view_decide(&l->view, phase, &spot, out);
}

void authority_decide_kv(const struct authority_look *l, const char *src, const char *dst,
                         struct policy_decision *out) {
    struct policy_spot from, to;
    authority_spot(l, src, &from);
    authority_spot(l, dst, &to);
    policy_view_decide_kv(&l->view, &from, &to, out);
}

static bool permits(const struct authority_look *l, enum policy_phase phase, const struct policy_spot *spot) {
    struct policy_decision d;
    policy_view_decide(&l->view, phase, spot, &d);
    return d.allow;
}

void authority_see(const struct authority_look *l, const char *node, struct authority_sight *out) {
    authority_spot(l, node, &out->spot);
    out->reads = permits(l, POLICY_PREFILL, &out->spot);
    out->writes = permits(l, POLICY_DECODE, &out->spot);
}

bool authority_sends(const struct authority_look *l, const struct authority_sight *src,
                     const struct authority_sight *dst) {
    struct policy_decision d;
    policy_view_decide_kv(&l->view, &src->spot, &dst->spot, &d);
    return d.allow;
}

// `what` the agent may not do, and by which rules.
static int verdict(const struct authority_look *l, const struct policy_decision *d, const char *what, const char *src,
                   const char *dst, struct err *e) {
    char why[POLICY_IDS], from[PEERS_NAME], to[PEERS_NAME];
    if (d->allow) return 0;
    policy_decision_text(l->view.policy, d, why, sizeof why);
    node_name(l->s, src, from, sizeof from);
    if (dst) node_name(l->s, dst, to, sizeof to);
    return err_set(e, ERR_DENIED, "the policy does not let this agent %s %s%s%s: %s", what, from, dst ? " to " : "",
                   dst ? to : "", why);
}

static int check(const struct authority_look *l, enum policy_phase phase, const char *node, struct err *e) {
    struct policy_decision d;
    authority_decide(l, phase, node, &d);
    return verdict(l, &d, phase == POLICY_PREFILL ? "have prompts read on" : "have answers written on", node, NULL, e);
}

static int check_kv(const struct authority_look *l, const char *src, const char *dst, struct err *e) {
    struct policy_decision d;
    authority_decide_kv(l, src, dst, &d);
    return verdict(l, &d, "send KV rows from", src, dst, e);
}

int authority_check(const struct serve *s, const struct policy_subject *who, enum policy_phase phase, const char *node,
                    struct err *e) {
    struct authority_look l;
    authority_look(s, who, &l);
    return check(&l, phase, node, e);
}

int authority_check_kv(const struct serve *s, const struct policy_subject *who, const char *src, const char *dst,
                       struct err *e) {
    struct authority_look l;
    authority_look(s, who, &l);
    return check_kv(&l, src, dst, e);
}

int authority_place(const struct serve *s, const struct policy_subject *who, const char *prefill, const char *decode,
                    bool *writes_on, struct err *e) {
    struct authority_look l;
    authority_look(s, who, &l);
    if (writes_on) *writes_on = !check(&l, POLICY_DECODE, prefill, NULL);
    if (check(&l, POLICY_PREFILL, prefill, e) || check(&l, POLICY_DECODE, decode, e)) return -1;
    return strcmp(prefill, decode) != 0 ? check_kv(&l, prefill, decode, e) : 0;
}
