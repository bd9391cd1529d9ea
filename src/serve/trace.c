#include "serve/trace.h"
#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *trace_event_name(enum trace_event e) {
    static const char *const names[] = {
        [TRACE_OPENED] = "opened",     [TRACE_STREAM] = "stream",
        [TRACE_STARTED] = "started",   [TRACE_INSTALLED] = "installed",
        [TRACE_TOKEN] = "token",       [TRACE_PAUSED] = "paused",
        [TRACE_CUT] = "cut",           [TRACE_FAILED] = "failed",
        [TRACE_ENDED] = "ended",       [TRACE_DROPPED] = "dropped",
        [TRACE_COMPUTED] = "computed", [TRACE_SENT] = "sent",
    };
    return names[e];
}

void trace_begin(struct trace *t, uint64_t now_ns, uint64_t wall_ns) {
    memset(t, 0, sizeof *t);
    t->start_ns = now_ns;
    t->start_wall_ns = (int64_t)wall_ns;
}

static bool tells_progress(enum trace_event e) {
    return e == TRACE_INSTALLED || e == TRACE_COMPUTED || e == TRACE_SENT;
}

// Takes every second one of a place's entries of progress away. The newest of each kind stays.
static void thin_out(struct trace *t) {
    unsigned later[TRACE_EVENTS][TRACE_PLACES] = {0};
    int to = t->n;
    for (int i = t->n - 1; i >= 0; i--) {
        const struct trace_entry *e = &t->entries[i];
        if (!tells_progress(e->event) || later[e->event][e->place]++ % 2 == 0) t->entries[--to] = *e;
    }
    t->n -= to;
    memmove(t->entries, t->entries + to, (size_t)t->n * sizeof *t->entries);
}

// Looks when the prompt's rows begin to travel, and when all of them are there.
static void watch_transfer(struct trace *t, const struct trace_entry *e) {
    if (!e->place || t->moved_ns) return;
    if (e->event == TRACE_STREAM) t->moves_ns = 0;
    if (e->event != TRACE_INSTALLED) return;
    if (t->prompt_tokens && e->value >= t->prompt_tokens) t->moved_ns = e->ns;
}

static void add(struct trace *t, const struct trace_entry *e) {
    watch_transfer(t, e);
    if (t->n == TRACE_MOST) thin_out(t);
    if (t->n < TRACE_MOST)
        t->entries[t->n++] = *e;
    else if (!tells_progress(e->event))
        t->entries[t->n - 1] = *e; // the end is worth more than what came just before it
}

void trace_add(struct trace *t, uint64_t now_ns, int place, enum trace_event event, int64_t value) {
    add(t, &(struct trace_entry){now_ns - t->start_ns, value, event, place, 0});
}

// The number of a reason. Where all are taken, the newest one goes, and its entries keep none.
static int reason_of(struct trace *t, const char *why) {
    char text[TRACE_REASON];
    text_escape(text, sizeof text, why);
    for (int i = 0; i < t->n_reasons; i++)
        if (!strcmp(t->reasons[i], text)) return i + 1;
    if (t->n_reasons < TRACE_REASONS)
        t->n_reasons++;
    else
        for (int i = 0; i < t->n; i++)
            if (t->entries[i].reason == TRACE_REASONS) t->entries[i].reason = 0;
    memcpy(t->reasons[t->n_reasons - 1], text, sizeof text);
    return t->n_reasons;
}

void trace_add_reason(struct trace *t, uint64_t now_ns, int place, enum trace_event event, const char *why) {
    add(t, &(struct trace_entry){now_ns - t->start_ns, 0, event, place, reason_of(t, why)});
}

void trace_sent_from(struct trace *t, uint64_t ns) {
    if (!t->moved_ns && ns > t->start_ns) t->moves_ns = ns - t->start_ns;
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

static json_t *entry_json(const struct trace *t, const struct trace_entry *e) {
    json_t *o = json_pack("{s:f, s:i, s:s, s:I}", "ms", (double)e->ns / 1e6, "place", e->place, "event",
                          trace_event_name(e->event), "value", (json_int_t)e->value);
    if (o && e->reason) json_object_set_new(o, "reason", json_string(t->reasons[e->reason - 1]));
    return o;
}

// How long the prompt's rows travelled, and how much of that the reading of the prompt hid: what came before the first
// token. Where it is not known when they began to, only what it did not hide is. NULL: they did not travel.
static json_t *transfer_json(const struct trace *t) {
    const struct trace_entry *token = first_of(t, TRACE_TOKEN);
    if (!token || !t->moved_ns) return NULL;
    uint64_t from = token->ns > t->moves_ns ? token->ns : t->moves_ns;
    uint64_t exposed = t->moved_ns > from ? t->moved_ns - from : 0;
    json_t *o = json_pack("{s:f}", "exposed_ms", (double)exposed / 1e6);
    if (!t->moves_ns || t->moved_ns <= t->moves_ns) return o;
    double all = (double)(t->moved_ns - t->moves_ns);
    json_object_set_new(o, "began_ms", json_real((double)t->moves_ns / 1e6));
    json_object_set_new(o, "ms", json_real(all / 1e6));
    json_object_set_new(o, "hidden", json_real(1 - (double)exposed / all));
    return o;
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

// ---------------------------------------------------------------- the plan
// The predicted total for as many tokens as the answer had in the end.
static double total_of(const struct trace *t) {
    const struct trace_plan *p = &t->plan;
    if (t->completion_tokens < 1 || p->generate <= 1) return p->total_s;
    return p->ttft_s + p->decode_s * (t->completion_tokens - 1) / (p->generate - 1);
}

// Adds to `words` where a prediction was wrong.
static void judge(char *words, size_t size, const char *what, double predicted, double measured) {
    double off = predicted > 0 ? measured / predicted - 1 : 0;
    size_t n = strlen(words);
    if (fabs(off) <= TRACE_WRONG) return;
    snprintf(words + n, size - n, "%s%s took %.0f %% %s than predicted", n ? "; " : "", what, fabs(off) * 100,
             off > 0 ? "longer" : "less");
}

json_t *trace_plan_json(const struct trace *t) {
    const struct trace_plan *p = &t->plan;
    char words[200] = "";
    if (!p->made) return NULL;
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:{s:f, s:f, s:f, s:f, s:f, s:f, s:f}, s:s}", "mode", p->mode, "prefill", p->prefill,
                  "decode", p->decode, "predicted", "ttft_ms", p->ttft_s * 1e3, "prefill_ms", p->prefill_s * 1e3,
                  "exposed_ms", p->exposed_s * 1e3, "decode_ms", p->decode_s * 1e3, "total_ms", p->total_s * 1e3,
                  "prompt_tokens", p->prompt, "completion_tokens", p->generate, "reason", p->reason);
    if (strcmp(p->prefill, p->decode) != 0)
        json_object_update_new(o,
                               json_pack("{s:s, s:s}", "handover", p->waits ? "wait" : "zero-stall", "wire", p->wire));
    if (!t->total_ns) return o;
    double ttft = (double)t->ttft_ns / 1e9, total = (double)t->total_ns / 1e9;
    judge(words, sizeof words, "the first token", p->ttft_s, ttft);
    judge(words, sizeof words, "the whole answer", total_of(t), total);
    size_t n = strlen(words);
    if (n && t->cached_tokens)
        snprintf(words + n, sizeof words - n, " (%d tokens of the prompt were cached)", (int)t->cached_tokens);
    json_object_set_new(o, "measured", json_pack("{s:f, s:f}", "ttft_ms", ttft * 1e3, "total_ms", total * 1e3));
    json_object_set_new(o, "predicted_for_this_answer_ms", json_real(total_of(t) * 1e3));
    if (words[0]) json_object_set_new(o, "wrong", json_string(words));
    return o;
}

json_t *trace_json(const struct trace *t) {
    json_t *nodes = json_array(), *events = json_array();
    for (int i = 0; i < t->n_nodes; i++) json_array_append_new(nodes, json_string(t->nodes[i]));
    for (int i = 0; i < t->n; i++) json_array_append_new(events, entry_json(t, &t->entries[i]));
    json_t *all = json_pack("{s:s, s:s, s:s, s:I, s:o, s:i, s:i, s:I, s:s, s:o}", "id", t->id, "agent", t->agent,
                            "model", t->model, "began_ms", (json_int_t)(t->start_wall_ns / 1000000), "nodes", nodes,
                            "prompt_tokens", (int)t->prompt_tokens, "completion_tokens", (int)t->completion_tokens,
                            "kv_bytes", (json_int_t)t->kv_bytes, "wire", t->wire, "events", events);
    json_t *plan = trace_plan_json(t);
    if (plan) json_object_set_new(all, "plan", plan);
    json_t *transfer = all ? transfer_json(t) : NULL;
    if (transfer) json_object_set_new(all, "transfer", transfer);
    return emulated_json(t, all);
}
