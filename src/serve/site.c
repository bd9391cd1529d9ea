#include "serve/site.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/cluster.h"
#include "serve/evidence.h"
#include "serve/links.h"
#include "serve/node.h"
#include "serve/place_ops.h"
#include "serve/profiles.h"
#include "serve/sitemsg.h"
#include "serve/wire.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS_LEAST = 4 };  // tokens; fewer say little about the speed of writing
enum { INFLOW_SLOTS = 4 }; // units that are assembled or installed at the same time; a whole state is one

struct site {
    struct place place;
    struct record *record; // held
    struct serve *s;
    struct model *model;
    uint64_t id;                     // of the engine's request; 0 = it has ended
    char contract[65], weights[65];  // what the model's must be, or ""
    int32_t prompt, cached, written; // tokens; 0 = not begun, or nothing yet
    int64_t number;                  // model->requests when it came
    bool alone;                      // no other request was there then
    bool moves;                      // it is held or paused, or rows come or leave
    bool paused;
    // rows that come in
    char from[NODE_ID]; // "" = none
    uint64_t stream_in;
    struct inflow *in;
    int32_t awaited;            // it is started when the rows before this one are in, 0 = not said yet
    uint64_t bytes_in, came_ns; // on the wire; when the first of them came, 0 = none yet
    const char *wire_in;        // what they travel as; "" = none came yet
    bool whole;                 // they are a state
    bool coarse;                // some travelled as another type than the cache's:
    enum kv_dtype dtype;
    // what it takes here, as long as it moves
    bool computes;     // it is not held, and was not stopped
    int32_t to_read;   // tokens of the prompt that it computes before its first text; 0 = not known, or done
    uint64_t reads_ns; // since when
    int32_t spoke;     // tokens told with its first text since it was started; 0 = none yet
    uint64_t spoke_ns, latest_ns;
    struct fit_sample seen;
    // rows that go out
    char to[NODE_ID];
    uint64_t stream_out;
    struct outflow *out;
    int32_t computed; // rows before this position were handed over to it
    TAILQ_ENTRY(site) next;
};

static struct site *site_of(struct place *p) { return (struct site *)p; }

static void end_inflow(struct site *site) {
    struct flow_figures f;
    if (site->in) {
        inflow_figures(site->in, &f);
        const struct evidence_rows rows = {site->from, f.bytes, f.upto, site->whole ? "state" : kv_dtype_name(f.wire)};
        evidence_rows(site->record, ENTRY_KV_RECV, &rows);
    }
    inflow_close(site->in);
    site->in = NULL;
}

static void end_outflow(struct site *site) {
    struct flow_figures f;
    if (site->out) {
        outflow_figures(site->out, &f);
        const struct evidence_rows rows = {site->to, f.bytes, site->computed, ""};
        evidence_rows(site->record, ENTRY_KV_SENT, &rows);
    }
    outflow_close(site->out);
    site->out = NULL;
}

static void close_streams(struct site *site) {
    end_inflow(site);
    end_outflow(site);
}

// Tells of a failure that this side has noticed. The caller touches the site no more.
static void fail(struct site *site, const struct err *why) {
    if (site->id) engine_cancel(site->model->engine, site->id);
    site->id = 0;
    close_streams(site);
    site->place.ev.failed(site->place.arg, why);
}

// ---------------------------------------------------------------- rows that come in
static void on_unit(void *arg, int32_t slot, int32_t first, int32_t count) {
    struct site *site = arg;
    struct err why;
    struct flow_figures figures;
    inflow_figures(site->in, &figures);
    site->coarse |= !site->whole && figures.wire != site->dtype; // for good: what follows is computed from them
    const struct engine_unit unit = {slot, first, count, site->coarse};
    if (site->id && engine_install(site->model->engine, site->id, &unit, &why)) fail(site, &why);
}

static void on_inflow_failed(void *arg, const struct err *why) {
    struct site *site = arg;
    end_inflow(site);
    site->place.ev.cut(site->place.arg, true, why);
}

static int32_t slots_of(const struct kv_shape *s) { return s->form == KV_OPAQUE ? 1 : INFLOW_SLOTS; }

// Whether what its sequences remember can come to this node, or leave it.
static int check_moves(const struct site *site, const struct worker_info *info, struct err *e) {
    if (engine_arena(site->model->engine)) return 0;
    return err_set(e, ERR_INVALID, "a sequence of '%s' cannot move to this node or from it: %s", site->model->name,
                   info->kv_why[0] ? info->kv_why : "no memory is shared with its worker, see kv_buffer");
}

static void grant(struct site *site) {
    struct err why;
    if (node_is_self(site->s, site->from)) {
        site_credit(site->s, site->from, site->stream_in, 1);
        return;
    }
    json_t *msg = sitemsg_write_credit(&(struct sitemsg_credit){site->stream_in, 1});
    if (!msg || node_send(site->s, site->from, msg, &why))
        log_debug("a credit could not be sent"); // the sender is gone, and the stream breaks
    json_decref(msg);
}

static void on_installed(void *arg, int32_t upto, int32_t slot) {
    struct site *site = arg;
    if (site->in) {
        struct flow_figures figures;
        inflow_installed(site->in, slot);
        inflow_figures(site->in, &figures);
        site->bytes_in = figures.bytes;
        site->came_ns = figures.begun_ns;
        site->wire_in = site->whole ? "state" : kv_dtype_name(figures.wire);
        if (!site->whole) grant(site);
        if (site->awaited && upto >= site->awaited) end_inflow(site); // it runs: no row is of use any more
    }
    site->place.ev.installed(site->place.arg, upto, site->bytes_in, site->came_ns, site->wire_in);
}

// Waits for rows of positions from `first` on.
static int expect(struct site *site, const struct worker_info *info, int32_t first, struct err *e) {
    static const struct inflow_events events = {on_unit, on_inflow_failed};
    site->moves = true;
    struct inflow_spec spec = {.stream = site->stream_in,
                               .shape = info->kv,
                               .first = first,
                               .last = info->ctx,
                               .n_slots = slots_of(&info->kv),
                               .arena = engine_arena(site->model->engine)};
    memcpy(spec.from, site->from, sizeof spec.from);
    if (check_moves(site, info, e)) return -1;
    if (info->kv.form == KV_OPAQUE) spec.first = 0;
    site->dtype = info->kv.dtype;
    site->in = inflow_open(cluster_transfers(site->s->cluster), &spec, &events, site, e);
    return site->in ? 0 : -1;
}

// ---------------------------------------------------------------- rows that go out
static void on_outflow_failed(void *arg, const struct err *why) {
    struct site *site = arg;
    place_cut(&site->place);
    site->place.ev.cut(site->place.arg, false, why);
}

static void on_rows(void *arg, const struct kv_rows *r) {
    struct site *site = arg;
    struct err why;
    struct arena *arena = engine_arena(site->model->engine);
    if (!site->whole && r->first + r->count > site->computed) site->computed = r->first + r->count;
    if (!site->out)
        arena_return(arena, r->block); // the stream was cut meanwhile
    else if (outflow_rows(site->out, r->layer, r->kind, r->first, r->count, r->block, &why)) {
        arena_return(arena, r->block);
        on_outflow_failed(site, &why);
    }
}

static enum kv_dtype wire_of(const struct site *site, const struct place_target *to, const struct kv_shape *shape) {
    const char *const words[] = {to->wire, site->s->settings.kv_wire};
    struct links_estimate link;
    links_estimate(site->s->links, to->node, &link);
    double rows_s = profiles_rows_s(site->s, node_self(site->s), site->model->name);
    return wire_type(shape, wire_wish(words, 2), rows_s, link.bytes_s);
}

static int site_stream(struct place *p, const struct place_target *to, struct err *e) {
    static const struct outflow_events events = {.failed = on_outflow_failed};
    struct site *site = site_of(p);
    struct engine_status status;
    engine_get_status(site->model->engine, &status);
    struct outflow_spec spec = {.stream = to->stream,
                                .shape = status.info.kv,
                                .wire = wire_of(site, to, &status.info.kv),
                                .arena = engine_arena(site->model->engine)};
    if (!site->id) return err_set(e, ERR_CANCELLED, "the request has ended");
    if (check_moves(site, &status.info, e)) return -1;
    snprintf(spec.to, sizeof spec.to, "%s", to->node);
    place_cut(p);
    memcpy(site->to, spec.to, sizeof site->to);
    site->moves = true;
    site->computed = 0;
    site->out = outflow_open(cluster_transfers(site->s->cluster), &spec, &events, site, e);
    site->stream_out = to->stream;
    if (!site->out) return -1;
    return engine_export(site->model->engine, site->id, to->first, to->credits, e);
}

static void site_cut(struct place *p) {
    struct site *site = site_of(p);
    struct err why;
    if (!site->out) return;
    if (site->id && engine_export(site->model->engine, site->id, -1, 0, &why)) log_debug("%s", why.msg);
    end_outflow(site);
}

static bool site_sent(const struct place *p, struct flow_figures *out) {
    const struct site *site = (const struct site *)p;
    if (!site->out) return false;
    outflow_figures(site->out, out);
    out->upto = site->computed;
    return true;
}

void site_credit(struct serve *s, const char *by, uint64_t stream, int32_t units) {
    struct site *site;
    struct err why;
    TAILQ_FOREACH(site, &s->sites, next) {
        if (!site->out || site->stream_out != stream || strcmp(site->to, by) != 0 || !site->id) continue;
        if (engine_credit(site->model->engine, site->id, units, &why)) log_debug("%s", why.msg);
    }
}

// ---------------------------------------------------------------- what the engine says
static int check_digest(const char *what, const char *wanted, const char *have, const char *model, struct err *e) {
    if (!wanted[0] || !strcmp(wanted, have)) return 0;
    return err_set(e, ERR_INVALID, "'%s' on this node is another model: its %s digest is %.12s, not %.12s", model, what,
                   have, wanted);
}

static int check_model(const struct site *site, const struct worker_info *info, struct err *e) {
    return check_digest("architecture", site->contract, info->contract, site->model->name, e) ||
                   check_digest("weights", site->weights, info->weights, site->model->name, e)
               ? -1
               : 0;
}

static void on_begin(void *arg, const struct gen_begin *b) {
    struct site *site = arg;
    site->to_read = b->prompt_tokens - b->cached_tokens;
    site->reads_ns = clock_mono_ns();
    struct engine_status status;
    struct err why;
    engine_get_status(site->model->engine, &status);
    const struct worker_info *info = &status.info;
    site->prompt = b->prompt_tokens;
    site->cached = b->cached_tokens;
    if (check_model(site, info, &why)) {
        fail(site, &why);
        return;
    }
    if (site->from[0] && expect(site, info, b->cached_tokens, &why))
        log_info("'%s' opens without rows of node %.8s: %s", site->model->name, site->from, why.msg);
    site->whole = info->kv.form == KV_OPAQUE;
    struct place_opened o = {.begin = *b,
                             .contract = info->contract,
                             .weights = info->weights,
                             .emulated = info->emulated,
                             .credits = site->in ? slots_of(&info->kv) : 0,
                             .whole = site->whole};
    site->place.ev.opened(site->place.arg, &o);
}

// What the phases of a request take that moves: from its start to its first text, and from there on.
static void watch_text(struct site *site, int32_t tokens) {
    site->latest_ns = clock_mono_ns();
    if (site->to_read) {
        site->seen.tokens = site->to_read;
        site->seen.cached = site->cached;
        site->seen.prefill_s = (double)(site->latest_ns - site->reads_ns) / 1e9;
        site->to_read = 0;
        site->model->read_ns = site->latest_ns;
    }
    if (site->spoke) return;
    site->spoke = tokens;
    site->spoke_ns = site->latest_ns;
}

static bool is_alone(const struct site *site) { return site->alone && site->number == site->model->requests; }

// It stops for now, or for good.
static void tell_profile(struct site *site) {
    struct fit_sample *seen = &site->seen;
    int32_t steps = site->spoke ? site->written - site->spoke : 0;
    if (steps >= STEPS_LEAST) {
        seen->context = site->prompt + site->spoke;
        seen->steps = steps;
        seen->decode_s = (double)(site->latest_ns - site->spoke_ns) / 1e9;
    }
    if (is_alone(site) && (seen->tokens > 0 || seen->steps > 0)) profiles_job(site->s->profiles, site->model, seen);
    *seen = (struct fit_sample){.tokens = 0};
    site->spoke = 0;
}

// The same of one that stayed, as its worker says.
static void tell_result(const struct site *site, const struct gen_result *r) {
    struct fit_sample s = {.tokens = r->prompt_tokens - r->cached_tokens,
                           .cached = r->cached_tokens,
                           .prefill_s = (double)r->prefill_ns / 1e9,
                           .context = r->prompt_tokens + 1,
                           .steps = r->completion_tokens > 1 ? r->completion_tokens - 1 : 0,
                           .decode_s = (double)r->decode_ns / 1e9};
    if (is_alone(site) && r->finish != FINISH_CANCELLED) profiles_job(site->s->profiles, site->model, &s);
}

static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t id) {
    struct site *site = arg;
    watch_text(site, tokens);
    site->written = tokens;
    site->place.ev.text(site->place.arg, text, len, tokens, id);
}

static void on_paused(void *arg, int32_t tokens, int32_t past) {
    struct site *site = arg;
    site->moves = true;
    tell_profile(site);
    site->paused = true;
    site->place.ev.paused(site->place.arg, tokens, past);
}

static void on_end(void *arg, const struct gen_result *r) {
    struct site *site = arg;
    site->id = 0;
    close_streams(site);
    if (site->moves)
        tell_profile(site);
    else
        tell_result(site, r);
    site->place.ev.ended(site->place.arg, r);
}

static void on_fail(void *arg, const struct err *why) {
    struct site *site = arg;
    site->id = 0;
    fail(site, why);
}

// ---------------------------------------------------------------- orders
static int site_start(struct place *p, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    struct site *site = site_of(p);
    if (from < 0) end_inflow(site);
    site->awaited = from;
    site->paused = false;
    site->reads_ns = clock_mono_ns();
    if (from >= 0 || n) site->to_read = 0; // its rows come from elsewhere, or it was begun there
    site->spoke = 0;
    site->computes = true;
    return engine_go(site->model->engine, site->id, generated, n, from, e);
}

static int site_pause(struct place *p, struct err *e) {
    struct site *site = site_of(p);
    return engine_pause(site->model->engine, site->id, e);
}

static void site_drop(struct place *p) {
    struct site *site = site_of(p);
    close_streams(site);
    if (site->id) engine_cancel(site->model->engine, site->id);
    site->model->used_ns = clock_mono_ns();
    TAILQ_REMOVE(&site->s->sites, site, next);
    evidence_release(site->record);
    free(site);
}

void site_load(const struct serve *s, const struct model *m, struct site_load *out) {
    const struct site *site;
    *out = (struct site_load){.queued = 0};
    TAILQ_FOREACH(site, &s->sites, next) {
        if (site->model != m || !site->id) continue;
        if (!site->computes || !site->to_read) {
            out->context += site->prompt + site->written;
            continue;
        }
        out->queued += site->to_read;
        out->prompts++;
        if (!out->since_ns || site->reads_ns < out->since_ns) out->since_ns = site->reads_ns;
    }
    if (out->since_ns && out->since_ns < m->read_ns) out->since_ns = m->read_ns;
}

void site_look(const struct place *p, struct site_view *out) {
    const struct site *site = (const struct site *)p;
    *out = (struct site_view){
        .model = site->model->name, .phase = "waiting", .prompt_tokens = site->prompt, .tokens = site->written};
    if (site->prompt) out->phase = site->in ? "receiving" : "prefill";
    if (site->written && !site->in) out->phase = "decode";
    if (site->paused) out->phase = "standby";
}

struct place *site_open(struct serve *s, const struct place_spec *spec, const struct place_events *ev, void *arg,
                        struct err *e) {
    static const struct place_ops ops = {site_start, site_stream, site_pause, site_cut, site_drop, site_sent, NULL};
    static const struct gen_events events = {on_begin, on_text, on_end, on_fail, on_rows, on_installed, on_paused};
    struct model *model = models_get(s->models, spec->model, e);
    struct site *site = model ? calloc(1, sizeof *site) : NULL;
    profiles_yield(s->profiles);
    if (!site) {
        if (model) err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *site = (struct site){.place = {&ops, *ev, arg}, .s = s, .model = model, .stream_in = spec->stream, .wire_in = ""};
    snprintf(site->contract, sizeof site->contract, "%s", spec->contract);
    snprintf(site->weights, sizeof site->weights, "%s", spec->weights);
    snprintf(site->from, sizeof site->from, "%s", spec->from);
    struct engine_status status;
    engine_get_status(model->engine, &status);
    bool known = status.info.contract[0]; // else once it is loaded
    if ((known && check_model(site, &status.info, e)) ||
        engine_submit(model->engine, spec->gen, &events, site, &site->id, e)) {
        free(site);
        return NULL;
    }
    site->number = ++model->requests;
    engine_get_status(model->engine, &status);
    site->alone = status.requests == 1;
    site->moves = spec->gen->hold;
    site->computes = !spec->gen->hold;
    site->record = evidence_hold(spec->record);
    TAILQ_INSERT_TAIL(&s->sites, site, next);
    return &site->place;
}
