// The receiving half of a measurement: counts what arrives, and when.
#include "cluster/transfer_internal.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { BEGINNING = 5 }; // one part in so many of what may come is not counted

// ---------------------------------------------------------------- life
bool sink_is_from_held(const struct transfers *t, const char *node) {
    for (const struct sink *s = t->sinks; s; s = s->next)
        if (!s->closed && !strcmp(s->spec.node, node)) return true;
    return false;
}

struct sink *sink_open(struct transfers *t, const struct burst_spec *spec, burst_done done, void *arg, struct err *e) {
    static const struct err newer = {.code = ERR_CANCELLED, .msg = "its sender has begun another measurement"};
    struct sink *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *s = (struct sink){.t = t, .spec = *spec, .done = done, .arg = arg};
    rate_begin(&s->rate, spec->bytes / BEGINNING, spec->ns / BEGINNING);
    pthread_mutex_lock(&t->lock);
    int rc = burst_check_held(t, spec, e);
    if (!rc) {
        sink_left_held(t, spec->node, &newer);
        s->next = t->sinks;
        t->sinks = s;
    }
    pthread_mutex_unlock(&t->lock);
    if (!rc) return s;
    free(s);
    return NULL;
}

void sink_await(struct sink *s, uint64_t total) {
    pthread_mutex_lock(&s->t->lock);
    s->awaited = total;
    transfers_wake_held(s->t);
    pthread_mutex_unlock(&s->t->lock);
}

static void read_held(const struct sink *s, struct burst_figures *out) {
    *out = (struct burst_figures){.total = s->rate.bytes, .cpu_ns = s->cpu_ns};
    if (!rate_get(&s->rate, &out->bytes, &out->ns)) out->bytes = out->ns = 0;
}

void sink_figures(struct sink *s, struct burst_figures *out) {
    pthread_mutex_lock(&s->t->lock);
    read_held(s, out);
    pthread_mutex_unlock(&s->t->lock);
}

void sink_close(struct sink *s) {
    if (!s) return;
    pthread_mutex_lock(&s->t->lock);
    s->closed = true;
    transfers_wake_held(s->t);
    pthread_mutex_unlock(&s->t->lock);
}

void sink_free(struct sink *s) {
    struct sink **at = &s->t->sinks;
    pthread_mutex_lock(&s->t->lock);
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    pthread_mutex_unlock(&s->t->lock);
    free(s);
}

void sink_settle(struct sink *s) {
    struct burst_figures figures;
    pthread_mutex_lock(&s->t->lock);
    bool over = s->failed || (s->awaited && s->rate.bytes >= s->awaited), news = over && !s->closed && !s->told;
    s->told |= news;
    read_held(s, &figures);
    pthread_mutex_unlock(&s->t->lock);
    if (news) s->done(s->arg, &figures, s->failed ? &s->why : NULL);
    if (s->closed) sink_free(s);
}

// ---------------------------------------------------------------- from the inlets
static struct sink *find_held(const struct inlet *from, uint64_t number) {
    struct sink *s = from->t->sinks;
    while (s && (s->closed || s->failed || s->spec.number != number || strcmp(s->spec.node, from->node) != 0))
        s = s->next;
    return s;
}

int sink_admit(const struct inlet *from, const struct kvframe *f, struct err *e) {
    pthread_mutex_lock(&from->t->lock);
    struct sink *s = find_held(from, f->stream);
    bool fits = s && f->length <= s->spec.bytes - s->admitted;
    if (fits) s->admitted += f->length;
    pthread_mutex_unlock(&from->t->lock);
    return fits ? 0 : err_set(e, ERR_NOT_FOUND, "no such bytes of a measurement are expected");
}

void sink_arrived(const struct inlet *from, const struct kvframe *f, uint64_t cpu_ns, const struct err *why) {
    pthread_mutex_lock(&from->t->lock);
    struct sink *s = find_held(from, f->stream);
    if (s && why) {
        s->failed = true;
        s->why = *why;
    } else if (s) {
        rate_add(&s->rate, f->length, clock_mono_ns());
        s->cpu_ns += cpu_ns;
    }
    if (s && (s->failed || (s->awaited && s->rate.bytes >= s->awaited))) transfers_wake_held(s->t);
    pthread_mutex_unlock(&from->t->lock);
}

void sink_left_held(struct transfers *t, const char *node, const struct err *why) {
    for (struct sink *s = t->sinks; s; s = s->next) {
        if (s->failed || strcmp(s->spec.node, node) != 0) continue;
        s->failed = true;
        s->why = *why;
        transfers_wake_held(t);
    }
}
