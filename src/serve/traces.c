#include "serve/traces.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#define TRACES_PATH "/nebulus/v1/traces/"

struct traces {
    size_t n; // ever kept
    struct trace ring[TRACES_KEPT];
};

struct traces *traces_new(void) {
    return calloc(1, sizeof(struct traces));
}
void traces_free(struct traces *t) { free(t); }

void traces_keep(struct traces *t, const struct trace *one) { t->ring[t->n++ % TRACES_KEPT] = *one; }

const struct trace *traces_find(const struct traces *t, const char *id) {
    size_t kept = t->n < TRACES_KEPT ? t->n : TRACES_KEPT;
    for (size_t i = 1; i <= kept; i++) {
        const struct trace *one = &t->ring[(t->n - i) % TRACES_KEPT];
        if (!id[0] || !strcmp(one->id, id)) return one;
    }
    return NULL;
}

void traces_show(const struct call *c) {
    const char *id = http_path(c->x) + strlen(TRACES_PATH);
    const struct trace *t = traces_find(c->s->traces, strcmp(id, "latest") ? id : "");
    char shown[128];
    struct err why;
    text_escape(shown, sizeof shown, id);
    if (!t) {
        err_set(&why, ERR_NOT_FOUND, "no trace of '%s': only the newest %d jobs are kept", shown, TRACES_KEPT);
        call_fail(c, &why);
        return;
    }
    json_t *v = trace_json(t);
    call_reply(c, v ? 200 : 500, v);
    json_decref(v);
}
