#include "serve/passes.h"
#include "base/clock.h"
#include "serve/tickets.h"

#include <stdio.h>
#include <string.h>

void passes_init(struct passes *p, const struct serve *s, const struct policy_subject *who, const char *model) {
    *p = (struct passes){.s = s, .who = who, .model = model, .req_id = "", .ids = json_array()};
}

void passes_free(struct passes *p) {
    json_decref(p->document);
    json_decref(p->ids);
    p->document = p->ids = NULL;
}

static bool is_same(const struct pass *a, const struct pass *b) {
    return !strcmp(a->prefill, b->prefill) && !strcmp(a->decode, b->decode) && a->writes_on == b->writes_on;
}

// A node takes a ticket once, so that no place gets one twice.
static bool fits(const struct passes *p, int place, const struct pass *pass, const char *weights) {
    return p->document && !(p->given & 1u << place) && is_same(&p->pass, pass) && !strcmp(p->weights, weights) &&
           clock_mono_ns() - p->issued_ns < TICKET_LIFE_MS / 2 * NS_PER_MS;
}

static int issue(struct passes *p, const struct pass *pass, const char *weights, int64_t tokens, struct err *e) {
    char id[TICKET_ID];
    const struct ticket_wish wish = {.who = p->who,
                                     .req_id = p->req_id,
                                     .model = p->model,
                                     .weights = weights,
                                     .parent = p->id,
                                     .prefill = pass->prefill,
                                     .decode = pass->decode,
                                     .writes_on = pass->writes_on,
                                     .tokens = tokens};
    json_t *document = tickets_issue(p->s, &wish, id, e);
    if (!document) return -1;
    json_decref(p->document);
    p->document = document;
    p->pass = *pass;
    memcpy(p->id, id, sizeof p->id);
    snprintf(p->weights, sizeof p->weights, "%s", weights);
    p->issued_ns = clock_mono_ns();
    p->given = 0;
    if (json_array_size(p->ids) < PASSES_SHOWN) json_array_append_new(p->ids, json_string(id));
    return 0;
}

json_t *passes_give(struct passes *p, int place, const struct pass *pass, const char *weights, int64_t tokens,
                    struct err *e) {
    if (!fits(p, place, pass, weights) && issue(p, pass, weights, tokens, e)) return NULL;
    p->given |= 1u << place;
    return p->document;
}

bool pass_reads(const struct pass *p, const char *node) { return !strcmp(p->prefill, node); }

bool pass_writes(const struct pass *p, const char *node) {
    return !strcmp(p->decode, node) || (!strcmp(p->prefill, node) && p->writes_on);
}

bool pass_streams(const struct pass *p, const char *from, const char *to) {
    return (!strcmp(p->prefill, from) && !strcmp(p->decode, to)) ||
           (!strcmp(p->prefill, to) && !strcmp(p->decode, from));
}
