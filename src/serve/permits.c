#include "serve/authority.h"
#include "serve/course_internal.h"
#include "serve/evidence.h"
#include "serve/node.h"

#include <string.h>

// ---------------------------------------------------------------- by the policy
static int may(const struct seat *seat, enum policy_phase phase, struct err *e) {
    return authority_check(seat->course->s, seat->course->who, phase, seat->node, e);
}

static int may_have_rows(const struct seat *seat, const struct seat *from, struct err *e) {
    return authority_check_kv(seat->course->s, seat->course->who, from->node, seat->node, e);
}

// Without rows from another place it reads the prompt, and so does the first place where it is asked first; any other
// one writes, from those rows.
static bool opens_to_read(const struct seat *seat, int32_t n, int source) {
    return source < 0 || seat->reads_only || (!n && !seat->index);
}

static int may_open(const struct seat *seat, int32_t n, int source, struct err *e) {
    if (opens_to_read(seat, n, source)) return may(seat, POLICY_PREFILL, e);
    return may_have_rows(seat, &seat->course->seats[source], e) || may(seat, POLICY_DECODE, e) ? -1 : 0;
}

// A place that does not wait for rows (from < 0) reads those that its cache lacks.
static bool must_read(const struct seat *seat, int32_t from) {
    return from < 0 && seat->rows + 1 < seat->course->trace.prompt_tokens;
}

// One that does not hand over writes.
static int may_start(const struct seat *seat, int32_t from, struct err *e) {
    if (must_read(seat, from) && may(seat, POLICY_PREFILL, e)) return -1;
    return seat->reads_only ? 0 : may(seat, POLICY_DECODE, e);
}

// ---------------------------------------------------------------- by tickets
static const char *weights_told(const struct course *c, const char *node) {
    const struct peer *p = cluster_find(c->s->cluster, node);
    const json_t *list = p ? cluster_models_of(c->s->cluster, p) : NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(m, "name"));
        const char *weights = json_string_value(json_object_get(m, "weights"));
        if (name && weights && !strcmp(name, c->model)) return weights;
    }
    return "";
}

// NULL: failed.
static json_t *ticket_for(struct seat *seat, const struct pass *pass, struct err *e) {
    struct course *c = seat->course;
    const char *weights = c->weights[0] ? c->weights : weights_told(c, seat->node);
    seat->pass = *pass;
    return passes_give(&c->passes, seat->index, pass, weights, c->gen.max_tokens, e);
}

static struct pass pass_of(const struct seat *prefill, const struct seat *decode) {
    struct pass p = {.writes_on = !prefill->reads_only};
    memcpy(p.prefill, prefill->node, sizeof p.prefill);
    memcpy(p.decode, decode->node, sizeof p.decode);
    return p;
}

// One that reads hands over to the other place where that is open already, or will be asked once this one is.
static struct pass pass_to_open(const struct seat *seat, int32_t n, int source) {
    const struct course *c = seat->course;
    const struct seat *other = &c->seats[1 - seat->index];
    bool hands_over = !c->single && (other->place || (!seat->index && !other->asked_ns));
    if (!opens_to_read(seat, n, source)) return pass_of(other, seat);
    return pass_of(seat, source >= 0 || hands_over ? other : seat);
}

static int permit(struct seat *seat, const struct seat *prefill, const struct seat *decode, struct err *e) {
    const struct pass pass = pass_of(prefill, decode);
    json_t *ticket = ticket_for(seat, &pass, e);
    return ticket ? place_permit(seat->place, ticket, e) : -1;
}

// ---------------------------------------------------------------- orders
static bool is_here(const struct seat *seat) { return node_is_self(seat->course->s, seat->node); }

int permits_open(struct seat *seat, int32_t n, int source, json_t **ticket, struct err *e) {
    const struct pass pass = pass_to_open(seat, n, source);
    *ticket = NULL;
    if (may_open(seat, n, source, e)) return -1;
    return is_here(seat) || (*ticket = ticket_for(seat, &pass, e)) ? 0 : -1;
}

int permits_start(struct seat *seat, int32_t from, struct err *e) {
    const struct pass *p = &seat->pass;
    if (may_start(seat, from, e)) return -1;
    if (is_here(seat)) return 0;
    bool reads = !must_read(seat, from) || pass_reads(p, seat->node);
    bool writes = seat->reads_only || pass_writes(p, seat->node);
    return reads && writes ? 0 : permit(seat, seat, seat, e);
}

int permits_stream(struct seat *from, const struct seat *to, struct err *e) {
    if (may_have_rows(to, from, e)) return -1;
    return is_here(from) || pass_streams(&from->pass, from->node, to->node) ? 0 : permit(from, from, to, e);
}

void permits_refused(const struct seat *seat, const struct err *why) {
    const struct course *c = seat->course;
    enum ticket_fault fault = ticket_fault_of(why->param);
    if (is_here(seat) || (why->code != ERR_DENIED && fault == TICKET_FINE)) return;
    evidence_note(c->record, ENTRY_DENY,
                  json_pack("{s:s, s:s, s:s, s:s}", "decision", "deny", "by", seat->node, "reason",
                            fault == TICKET_FINE ? "policy" : ticket_fault_name(fault), "ticket", c->passes.id));
}
