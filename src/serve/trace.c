#include "serve/trace.h"

#include <stdio.h>
#include <string.h>

const char *trace_event_name(enum trace_event e) {
    static const char *const names[] = {
        [TRACE_OPENED] = "opened",   [TRACE_STREAM] = "stream",
        [TRACE_STARTED] = "started", [TRACE_INSTALLED] = "installed",
        [TRACE_TOKEN] = "token",     [TRACE_PAUSED] = "paused",
        [TRACE_CUT] = "cut",         [TRACE_FAILED] = "failed",
        [TRACE_ENDED] = "ended",
    };
    return names[e];
}

void trace_begin(struct trace *t, uint64_t now_ns, uint64_t wall_ns) {
    memset(t, 0, sizeof *t);
    t->start_ns = now_ns;
    t->start_wall_ns = (int64_t)wall_ns;
}

void trace_add(struct trace *t, uint64_t now_ns, int place, enum trace_event event, int64_t value) {
    struct trace_entry entry = {now_ns - t->start_ns, value, event, place};
    struct trace_entry *last = t->n ? &t->entries[t->n - 1] : NULL;
    if (t->n < TRACE_MOST)
        t->entries[t->n++] = entry;
    else if (event != TRACE_INSTALLED || last->event == TRACE_INSTALLED)
        *last = entry; // the end is worth more than what came just before it
}

static const struct trace_entry *first_of(const struct trace *t, enum trace_event event) {
    for (int i = 0; i < t->n; i++)
        if (t->entries[i].event == event) return &t->entries[i];
    return NULL;
}

uint64_t trace_prefill_ns(const struct trace *t) {
    const struct trace_entry *start = first_of(t, TRACE_STARTED), *token = first_of(t, TRACE_TOKEN);
    return start && token && token->ns > start->ns ? token->ns - start->ns : 0;
}

int trace_node(struct trace *t, const char *name) {
    for (int i = 0; i < t->n_nodes; i++)
        if (!strcmp(t->nodes[i], name)) return i;
    int i = t->n_nodes < TRACE_PLACES ? t->n_nodes++ : TRACE_PLACES - 1;
    snprintf(t->nodes[i], sizeof t->nodes[i], "%s", name);
    return i;
}

static json_t *entry_json(const struct trace_entry *e) {
    return json_pack("{s:f, s:i, s:s, s:I}", "ms", (double)e->ns / 1e6, "place", e->place, "event",
                     trace_event_name(e->event), "value", (json_int_t)e->value);
}

// Adds "emulated", beside "nodes", where one of them is. Takes `all` over and returns it; NULL when out of memory.
static json_t *emulated_json(const struct trace *t, json_t *all) {
    json_t *list = json_array();
    bool any = false;
    for (int i = 0; i < t->n_nodes; i++) {
        any |= t->emulated[i][0];
        json_array_append_new(list, t->emulated[i][0] ? json_string(t->emulated[i]) : json_null());
    }
    if (any && !json_object_set(all, "emulated", list)) any = false;
    json_decref(list);
    if (!any) return all;
    json_decref(all);
    return NULL;
}

json_t *trace_json(const struct trace *t) {
    json_t *nodes = json_array(), *events = json_array();
    for (int i = 0; i < t->n_nodes; i++) json_array_append_new(nodes, json_string(t->nodes[i]));
    for (int i = 0; i < t->n; i++) json_array_append_new(events, entry_json(&t->entries[i]));
    json_t *all = json_pack("{s:s, s:s, s:I, s:o, s:i, s:i, s:I, s:s, s:o}", "id", t->id, "model", t->model, "began_ms",
                            (json_int_t)(t->start_wall_ns / 1000000), "nodes", nodes, "prompt_tokens",
                            (int)t->prompt_tokens, "completion_tokens", (int)t->completion_tokens, "kv_bytes",
                            (json_int_t)t->kv_bytes, "wire", t->wire, "events", events);
    return emulated_json(t, all);
}
