#include "serve/serve.h"
#include "serve/traces.h"

#include <string.h>

int serve_init(struct serve *s, struct err *e) {
    memset(s, 0, sizeof *s);
    metrics_init(&s->metrics);
    TAILQ_INIT(&s->courses);
    TAILQ_INIT(&s->sites);
    TAILQ_INIT(&s->remotes);
    TAILQ_INIT(&s->ordered);
    s->traces = traces_new();
    s->base = event_base_new();
    if (!s->traces) return err_set(e, ERR_INTERNAL, "out of memory");
    return s->base ? 0 : err_set(e, ERR_INTERNAL, "cannot make an event loop");
}

void serve_close(struct serve *s) {
    traces_free(s->traces);
    if (s->base) event_base_free(s->base);
    s->traces = NULL;
    s->base = NULL;
}
