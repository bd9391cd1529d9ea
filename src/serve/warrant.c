#include "serve/warrant.h"
#include "serve/authority.h"
#include "serve/evidence.h"
#include "serve/node.h"

#include <string.h>

// What the ticket makes of this node.
struct part {
    bool reads, writes; // prefill, decode
    const char *other;  // the other node; this one where it does both
};

static struct part part_of(const struct serve *s, const struct ticket *t) {
    struct part p = {node_is_self(s, t->prefill.node), node_is_self(s, t->decode.node), t->prefill.node};
    if (p.reads) p.other = t->decode.node;
    return p;
}

static bool may_write(const struct part *p, const struct ticket *t) { return p->writes || (p->reads && t->writes_on); }
static bool is_alone(const struct part *p) { return p->reads && p->writes; }

static struct policy_subject subject_of(const struct ticket *t) {
    struct policy_subject who = *t->who;
    who.when = authority_now();
    return who;
}

static int check(const struct serve *s, const struct ticket *t, enum policy_phase phase, struct err *e) {
    const struct policy_subject who = subject_of(t);
    return authority_check(s, &who, phase, node_self(s), e);
}

static int check_rows(const struct serve *s, const struct ticket *t, const char *from, const char *to, struct err *e) {
    const struct policy_subject who = subject_of(t);
    return authority_check_kv(s, &who, from, to, e);
}

// ---------------------------------------------------------------- opening
int warrant_model(const struct ticket *t, const char *weights, struct err *e) {
    if (!t->weights[0] || !weights[0] || !strcmp(t->weights, weights)) return 0;
    err_param(e, ticket_fault_name(TICKET_MODEL),
              "the ticket is for another model of the name '%s': its weights digest is %.12s, that here is %.12s",
              t->model, t->weights, weights);
    if (e) e->code = ERR_DENIED;
    return -1;
}

static int check_model(const struct serve *s, const struct ticket *t, const struct place_spec *spec, struct err *e) {
    const struct model *m = models_find(s->models, t->model);
    struct engine_status status;
    if (strcmp(spec->model, t->model) != 0) return ticket_refuse(TICKET_MODEL, e);
    if (warrant_model(t, spec->weights, e)) return -1;
    if (!m) return 0;
    engine_get_status(m->engine, &status);
    return warrant_model(t, status.info.weights, e);
}

static int open_reader(const struct serve *s, const struct ticket *t, const struct part *p,
                       const struct place_spec *spec, bool *rows, struct err *e) {
    if (!may_write(p, t) && !spec->gen->hold) return ticket_refuse(TICKET_NODE, e); // it would go on by itself
    *rows = *rows && !check_rows(s, t, p->other, node_self(s), NULL);
    if (check(s, t, POLICY_PREFILL, e)) return -1;
    return may_write(p, t) ? check(s, t, POLICY_DECODE, e) : 0;
}

static int open_writer(const struct serve *s, const struct ticket *t, const struct part *p,
                       const struct place_spec *spec, struct err *e) {
    if (!spec->gen->hold || !spec->from[0]) return ticket_refuse(TICKET_NODE, e); // it would read the prompt
    return check_rows(s, t, p->other, node_self(s), e) || check(s, t, POLICY_DECODE, e) ? -1 : 0;
}

int warrant_open(const struct serve *s, const struct ticket *t, const struct place_spec *spec, bool *rows,
                 struct err *e) {
    const struct part p = part_of(s, t);
    *rows = spec->from[0];
    if (check_model(s, t, spec, e)) return -1;
    if (t->tokens >= 0 && (spec->gen->max_tokens < 0 || spec->gen->max_tokens > t->tokens))
        return ticket_refuse(TICKET_TOKENS, e);
    if (*rows && (is_alone(&p) || strcmp(spec->from, p.other) != 0)) return ticket_refuse(TICKET_NODE, e);
    return p.reads ? open_reader(s, t, &p, spec, rows, e) : open_writer(s, t, &p, spec, e);
}

// ---------------------------------------------------------------- what is ordered then
int warrant_start(const struct serve *s, const struct ticket *t, const struct warrant_start *what, struct err *e) {
    const struct part p = part_of(s, t);
    if ((what->reads && !p.reads) || (what->generated && !may_write(&p, t))) return ticket_refuse(TICKET_NODE, e);
    if (p.reads && check(s, t, POLICY_PREFILL, e)) return -1;
    return may_write(&p, t) ? check(s, t, POLICY_DECODE, e) : 0;
}

int warrant_stream(const struct serve *s, const struct ticket *t, const char *to, struct err *e) {
    const struct part p = part_of(s, t);
    if (is_alone(&p) || strcmp(to, p.other) != 0) return ticket_refuse(TICKET_NODE, e);
    return check_rows(s, t, node_self(s), to, e);
}

int warrant_renew(const struct ticket *had, const struct ticket *t, struct err *e) {
    bool same = !strcmp(had->req_id, t->req_id) && !strcmp(had->gateway, t->gateway);
    if (!same || strcmp(had->who->lineage->id, t->who->lineage->id) != 0) return ticket_refuse(TICKET_REQUEST, e);
    if (strcmp(had->model, t->model) != 0) return ticket_refuse(TICKET_MODEL, e);
    return warrant_model(had, t->weights, e);
}

bool warrant_reads_only(const struct serve *s, const struct ticket *t) {
    const struct part p = part_of(s, t);
    return !may_write(&p, t);
}

json_t *warrant_decision(const struct serve *s, const struct ticket *t) {
    const struct part p = part_of(s, t);
    const struct policy_subject who = subject_of(t);
    struct authority_look look;
    struct policy_decision d, also;
    authority_look(s, &who, &look);
    if (p.reads)
        authority_decide(&look, POLICY_PREFILL, node_self(s), &d);
    else
        authority_decide_kv(&look, p.other, node_self(s), &d);
    if (may_write(&p, t)) {
        authority_decide(&look, POLICY_DECODE, node_self(s), &also);
        policy_decision_join(&d, &also);
    }
    return evidence_decision(s, &d);
}
