#include "base/clock.h"
#include "base/log.h"
#include "engine/kept.h"
#include "engine/worker/compute_internal.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t REPORT_NS = 250 * NS_PER_MS;

// The latest sequences first; those that hashes cannot be made of for lack of memory are not told.
static json_t *kept_message(const struct compute *c) {
    const struct keeper *kept = &c->queue->kept;
    struct kept_marks marks = {.n = 0};
    for (int32_t i = kept->n - 1; i >= 0 && marks.n < KEPT_MARKS; i--) {
        const struct kept *one = &kept->list[i];
        uint64_t *hashes = malloc((size_t)one->n * sizeof *hashes);
        if (!hashes) continue;
        kept_hashes(one->tokens, one->n, hashes);
        kept_add(&marks, hashes, one->n);
        free(hashes);
    }
    return json_pack("{s:s, s:o}", "t", "kept", "d", kept_encode(&marks));
}

static void report(struct compute *c) {
    struct queue *q = c->queue;
    pthread_mutex_lock(&q->lock);
    c->stats.waiting = q->n_waiting;
    pthread_mutex_unlock(&q->lock);
    c->stats.running = q->n_running;
    c->stats.cells_used = 0;
    for (int32_t i = 0; i < q->n_running; i++) c->stats.cells_used += q->running[i]->lane.past;
    c->stats.cells_kept = keeper_cells(&c->queue->kept);
    c->reported = clock_mono_ns();
    channel_send(c->channel, stats_encode(&c->stats));
    if (c->kept_changed) channel_send(c->channel, kept_message(c));
    c->kept_changed = false;
}

// ---------------------------------------------------------------- sequences come and go
static void end_cancelled(struct compute *c) {
    for (int32_t i = c->queue->n_running - 1; i >= 0; i--)
        if (atomic_load(&c->queue->running[i]->cancelled)) member_finish(c, c->queue->running[i], FINISH_CANCELLED, -1);
}

int32_t compute_lanes(const struct queue *q, const struct lane **lanes) {
    for (int32_t i = 0; i < q->n_running; i++) lanes[i] = &q->running[i]->lane;
    return q->n_running;
}

static void make_room(struct compute *c) {
    const struct lane *lanes[LIMIT_PARALLEL];
    int32_t victim;
    while ((victim = batch_victim(lanes, compute_lanes(c->queue, lanes), c->stats.cells_total)) >= 0)
        member_preempt(c, victim);
    kept_make_room(c);
}

// ---------------------------------------------------------------- a step
static void add_token(struct llama_batch *b, llama_token token, int32_t pos, int32_t slot, bool logits) {
    int32_t i = b->n_tokens++;
    b->token[i] = token;
    b->pos[i] = pos;
    b->n_seq_id[i] = 1;
    b->seq_id[i][0] = slot;
    b->logits[i] = logits;
}

// Chooses the members of the step. Returns how many of them generate.
static int32_t plan(struct compute *c) {
    const struct lane *lanes[LIMIT_PARALLEL];
    int32_t n = compute_lanes(c->queue, lanes), decodes = 0;
    for (int32_t i = 0; i < n; i++) decodes += lane_decodes(lanes[i]);
    c->n_shares = batch_plan(lanes, n, pace_budget(&c->pace, decodes, c->step_ns, c->capacity), c->shares);
    for (int32_t i = 0; i < c->n_shares; i++) c->members[i] = c->queue->running[c->shares[i].lane];
    return decodes;
}

static void fill(struct compute *c) {
    c->batch.n_tokens = 0;
    for (int32_t i = c->first; i < c->end; i++) {
        const struct sequence *s = c->members[i];
        for (int32_t k = 0; k < c->shares[i].count; k++) {
            int32_t at = s->lane.past + k;
            add_token(&c->batch, s->tokens[at], at, s->slot, at + 1 == s->lane.len);
        }
    }
}

// libllama asks this often during a step: nobody waits for its result any more?
static bool abandoned(void *arg) {
    const struct compute *c = arg;
    activity_step(c->activity);
    if (atomic_load_explicit(&c->queue->closing, memory_order_relaxed)) return true;
    for (int32_t i = c->first; i < c->end; i++)
        if (!atomic_load_explicit(&c->members[i]->cancelled, memory_order_relaxed)) return false;
    return c->first < c->end;
}

// ---------------------------------------------------------------- pacing, see engine/worker/emulate.h
static void pace_begin(struct compute *c, uint64_t now) {
    struct emulate_work w = {.seconds = 0};
    if (!c->emulates) return;
    for (int32_t i = c->first; i < c->end; i++) {
        const struct lane *l = &c->members[i]->lane;
        if (lane_decodes(l))
            emulate_token(&c->emulate, &w, l->past);
        else
            emulate_prompt(&c->emulate, &w, c->shares[i].count, l->past, l->past + c->shares[i].count == l->len);
    }
    emulate_begin(&c->emulate, now, emulate_seconds(&c->emulate, &w));
}

// Before rows that a layer has written leave.
static void pace_layer(void *arg, int32_t layer) {
    struct compute *c = arg;
    uint64_t due = emulate_layer(&c->emulate, layer, clock_mono_ns());
    if (!due) return;
    emulate_wait(due, abandoned, c);
    emulate_resumed(&c->emulate, clock_mono_ns());
}

static void pace_end(struct compute *c, uint64_t began) {
    if (!c->emulates) return;
    double times = emulate_end(&c->emulate, began, clock_mono_ns());
    if (times > 1 && !c->warned) {
        log_warn("this machine takes %.1f times as long as %s would: its times are not reached; choose a larger scale "
                 "or a smaller model",
                 times, c->model->info.emulated);
        c->warned = true;
    }
    emulate_wait(c->emulate.due, abandoned, c);
}

// ---------------------------------------------------------------- what went wrong
static void step_failed(struct compute *c, int32_t rc) {
    enum { NO_SLOT = 1, ABORTED = 2 };
    if (rc == ABORTED) return; // its members are ended by the next turn
    struct queue *q = c->queue;
    if (rc == NO_SLOT && kept_evict(c)) return;
    if (rc == NO_SLOT && q->n_running > 1) {
        const struct lane *lanes[LIMIT_PARALLEL];
        int32_t youngest = batch_youngest(lanes, compute_lanes(q, lanes));
        c->barred = true; // first: ending one, as preempt may, lifts it
        member_preempt(c, youngest);
        return;
    }
    log_error("libllama could not compute a step (%d)", rc);
    for (int32_t i = c->first; i < c->end; i++)
        member_fail(c, c->members[i], ERR_INTERNAL,
                    rc == NO_SLOT ? "the KV cache has no room for this sequence"
                                  : "the model could not be computed; the reason is in the worker's log");
    // what the cache holds now is not known: the others are read again
    while (q->n_running) member_preempt(c, q->n_running - 1);
    kept_forget(c);
    llama_memory_clear(c->memory, true);
}

// ---------------------------------------------------------------- after a step
static void choose_tokens(struct compute *c) {
    for (int32_t i = c->first, at = 0; i < c->end; i++) {
        struct sequence *s = c->members[i];
        at += c->shares[i].count;
        s->lane.past += c->shares[i].count;
        if (s->lane.past < s->lane.len) continue; // its prompt is not read yet
        if (atomic_load(&s->cancelled)) continue;
        float *logits = llama_get_logits_ith(c->model->ctx, at - 1);
        llama_token token = logits ? sampler_choose(s->sampler, logits, s->tokens, s->lane.len, &c->candidates) : -1;
        if (token < 0)
            member_fail(c, s, ERR_INTERNAL, "the model computed no number for any token; its file may be damaged");
        else
            member_take_token(c, s, token);
    }
}

// Tokens of the pass that the daemon only measures with.
static int32_t bare_tokens(const struct compute *c) {
    int32_t n = 0;
    for (int32_t i = c->first; i < c->end; i++)
        if (c->members[i]->bare && !lane_decodes(&c->members[i]->lane)) n += c->shares[i].count;
    return n;
}

// Computes shares [first, end), of which `decodes` generate. Returns false if libllama could not.
static bool pass(struct compute *c, int32_t first, int32_t end, int32_t decodes) {
    c->first = first;
    c->end = end;
    uint64_t begin = clock_mono_ns();
    fill(c);
    pace_begin(c, begin);
    moves_begin(c);
    int32_t rc = llama_decode(c->model->ctx, c->batch), prompt = c->batch.n_tokens - decodes;
    llama_synchronize(c->model->ctx);
    if (!rc) pace_end(c, begin);
    moves_end(c);
    uint64_t took = clock_mono_ns() - begin;
    c->stats.busy_ns += (int64_t)took;
    if (rc) {
        step_failed(c, rc);
        return false;
    }
    pace_learn(&c->pace, decodes, prompt, took);
    c->stats.prefill_tokens += prompt - bare_tokens(c);
    if (prompt) queue_set_pace(c->queue, c->pace.prompt_ns);
    choose_tokens(c);
    return true;
}

static void step(struct compute *c) {
    int32_t decodes = plan(c), first = 0;
    c->stats.steps++;
    if (c->apart && decodes && decodes < c->n_shares) {
        if (!pass(c, 0, decodes, decodes)) return;
        member_flush(c); // the tokens do not wait for the prompts
        first = decodes;
        decodes = 0;
    }
    pass(c, first, c->n_shares, decodes);
}

// ---------------------------------------------------------------- the loop
// ggml's flash attention on a CPU takes 64 rows of a batch at a time and leaves out the cells that none of them sees.
// Generating sequences among them see nearly the whole cache, so a mixed batch costs a half more than its two parts.
// A GPU reads the weights twice for two batches, which costs more than the attention does.
static bool passes_apart(void) {
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        enum ggml_backend_dev_type type = ggml_backend_dev_type(ggml_backend_dev_get(i));
        if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU) return false;
    }
    return true;
}

static void init_pacing(struct compute *c, struct model *m) {
    c->emulates = m->emulates;
    if (!c->emulates) return;
    emulate_init(&c->emulate, &m->emulated, m->info.layers);
    m->tap.written = pace_layer;
    m->tap.written_arg = c;
}

static int init(struct compute *c, struct model *m, struct queue *q, struct channel *channel, struct blocks *blocks,
                const struct compute_options *o, struct err *e) {
    memset(c, 0, sizeof *c);
    c->blocks = blocks;
    exporter_init(&c->exporter, &m->kv, m->ctx, &m->tap, m->staging, blocks, channel);
    c->importer = (struct importer){.layout = &m->kv.layout, .ctx = m->ctx, .staging = m->staging};
    c->model = m;
    c->queue = q;
    c->activity = m->tap.activity = o->activity;
    c->channel = channel;
    init_pacing(c, m);
    c->memory = llama_get_memory(m->ctx);
    c->step_ns = (uint64_t)(o->step_ms > 0 ? o->step_ms : 1) * NS_PER_MS;
    c->keeps = o->keep > 0 && m->info.kv.form == KV_ROWS; // other caches cannot be cut off at any row
    c->keep_most = keep_most(o->keep, m->info.model_bytes, m->info.kv_bytes_per_token);
    c->apart = passes_apart();
    c->capacity = (int32_t)llama_n_batch(m->ctx);
    c->stats.cells_total = m->info.kv_cells;
    for (int32_t i = m->info.parallel; i > 0;) c->slots[c->n_slots++] = --i;
    buf_init(&c->piece, DETOK_PIECE);
    buf_init(&c->text, LIMIT_IPC_FROM_WORKER / 8);
    buf_init(&c->ends, LIMIT_IPC_FROM_WORKER);
    buf_init(&c->out, 2 * LIMIT_IPC_FROM_WORKER);
    c->batch = llama_batch_init(c->capacity, 0, 1);
    llama_set_abort_callback(m->ctx, abandoned, c);
    return candidates_init(&c->candidates, m->info.vocab, e);
}

static bool can_step(const struct queue *q) {
    for (int32_t i = 0; i < q->n_running; i++)
        if (!q->running[i]->lane.parked) return true;
    return false;
}

// Returns whether there is more to do at once.
static bool turn(struct compute *c, const struct wishes *asked) {
    c->again = false;
    end_cancelled(c);
    if (asked->forget) kept_forget(c);
    compute_admit(c);
    moves_obey(c);
    make_room(c);
    bool present = c->queue->n_running > 0;
    if (can_step(c->queue)) {
        member_flush(c); // what orders have brought about is told before the tokens that follow from it
        step(c);
    }
    moves_take(c);
    member_flush(c);
    bool due = !c->queue->n_running || clock_mono_ns() - c->reported >= REPORT_NS;
    bool stale = !c->queue->n_running && (c->stats.running || c->stats.waiting); // all that was left has been cancelled
    if (asked->report || stale || (present && due)) report(c);
    return c->again || can_step(c->queue);
}

static bool wait_for_work(struct compute *c, bool busy, struct wishes *asked) {
    activity_rest(c->activity);
    if (!busy) emulate_rest(&c->emulate);
    bool more = queue_wait(c->queue, busy, asked);
    activity_begin(c->activity);
    return more;
}

int compute_run(struct model *m, struct queue *q, struct channel *channel, struct blocks *blocks,
                const struct compute_options *o, struct err *e) {
    struct compute c;
    int rc = init(&c, m, q, channel, blocks, o, e);
    struct wishes asked;
    bool busy = false;
    while (!rc && wait_for_work(&c, busy, &asked)) {
        busy = turn(&c, &asked);
        if (c.lost) rc = err_set(e, ERR_INTERNAL, "out of memory for what a step has produced");
    }
    llama_set_abort_callback(m->ctx, NULL, NULL);
    m->tap.written = NULL;
    llama_batch_free(c.batch);
    candidates_free(&c.candidates);
    exporter_close(&c.exporter);
    buf_free(&c.piece);
    buf_free(&c.text);
    buf_free(&c.ends);
    buf_free(&c.out);
    return rc;
}
