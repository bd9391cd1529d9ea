#include "engine/worker/compute.h"
#include "base/clock.h"
#include "base/log.h"

#include <string.h>

static const uint64_t REPORT_NS = 250 * NS_PER_MS;

struct compute {
    struct model *model;
    struct queue *queue;
    struct channel *channel;
    llama_memory_t memory;
    uint64_t step_ns, reported;
    int32_t capacity;                       // tokens of a step
    int32_t slots[LIMIT_PARALLEL], n_slots; // free sequence ids of libllama
    struct llama_batch batch;
    struct candidates candidates;
    struct pace pace;
    bool apart;  // sequences that generate and prompts are computed in two passes, see passes_apart
    bool barred; // nothing is admitted until a sequence has ended: the cache was fuller than its cells say
    bool lost;   // something that the daemon waits for could not be said
    struct worker_stats stats;
    // the step
    struct share shares[LIMIT_PARALLEL]; // those that generate come first
    struct sequence *members[LIMIT_PARALLEL];
    int32_t n_shares, first, end; // the pass now computed holds shares [first, end)
    struct buf piece, text;       // of one token
    json_t *texts;                // what the step's "tokens" message will hold, or NULL
    struct buf ends;              // frames that follow it
    struct buf out;               // all of them
};

// ---------------------------------------------------------------- what the daemon hears
static void report(struct compute *c) {
    struct queue *q = c->queue;
    pthread_mutex_lock(&q->lock);
    c->stats.waiting = q->n_waiting;
    pthread_mutex_unlock(&q->lock);
    c->stats.running = q->n_running;
    c->stats.cells_used = 0;
    for (int32_t i = 0; i < q->n_running; i++) c->stats.cells_used += q->running[i]->lane.past;
    c->reported = clock_mono_ns();
    channel_send(c->channel, stats_encode(&c->stats));
}

static void append_end(struct compute *c, json_t *msg) {
    if (frame_append(&c->ends, msg)) c->lost = true;
    json_decref(msg);
}

// Writes what a step has produced: one message with all text, then the ends.
static void flush(struct compute *c) {
    buf_clear(&c->out);
    if (c->texts) {
        json_t *msg = json_pack("{s:s, s:o}", "t", "tokens", "d", c->texts);
        c->texts = NULL;
        if (frame_append(&c->out, msg)) c->lost = true;
        json_decref(msg);
    }
    if (buf_append(&c->out, buf_str(&c->ends), c->ends.len)) c->lost = true;
    if (!c->lost) channel_write(c->channel, &c->out);
    buf_clear(&c->ends);
}

// ---------------------------------------------------------------- sequences come and go
static void leave(struct compute *c, struct sequence *s) {
    llama_memory_seq_rm(c->memory, s->slot, -1, -1);
    c->slots[c->n_slots++] = s->slot;
    s->slot = -1;
    s->lane.past = 0;
}

static void drop(struct compute *c, struct sequence *s) {
    int32_t i = 0;
    while (c->queue->running[i] != s) i++;
    leave(c, queue_remove(c->queue, i));
    sequence_free(s);
    c->barred = false;
}

static void finish(struct compute *c, struct sequence *s, enum finish how, int stop) {
    struct gen_result result;
    sequence_result(s, how, stop, &result);
    append_end(c, result_encode(s->id, &result));
    drop(c, s);
}

static void fail(struct compute *c, struct sequence *s, const char *why) {
    struct err e;
    err_set(&e, ERR_INTERNAL, "%s", why);
    append_end(c, error_encode(s->id, &e));
    drop(c, s);
}

static void preempt(struct compute *c, int32_t i) {
    struct sequence *s = c->queue->running[i];
    leave(c, s);
    if (queue_preempt(c->queue, i)) {
        c->stats.preemptions++;
        return;
    }
    s->slot = c->slots[--c->n_slots]; // cancelled meanwhile: it keeps its place for the moment it takes to end it
    finish(c, s, FINISH_CANCELLED, -1);
}

static void end_cancelled(struct compute *c) {
    for (int32_t i = c->queue->n_running - 1; i >= 0; i--)
        if (atomic_load(&c->queue->running[i]->cancelled)) finish(c, c->queue->running[i], FINISH_CANCELLED, -1);
}

static int32_t lanes_of(const struct queue *q, const struct lane **lanes) {
    for (int32_t i = 0; i < q->n_running; i++) lanes[i] = &q->running[i]->lane;
    return q->n_running;
}

static bool fits(const struct sequence *s, void *arg) {
    const struct compute *c = arg;
    const struct lane *lanes[LIMIT_PARALLEL];
    int32_t n = lanes_of(c->queue, lanes);
    return c->n_slots > 0 && batch_admits(c->stats.cells_total, batch_cells(lanes, n), n, s->lane.len);
}

static void admit(struct compute *c) {
    if (c->barred && c->queue->n_running) return;
    for (struct sequence *s; (s = queue_admit(c->queue, fits, c));) {
        s->slot = c->slots[--c->n_slots];
        if (s->started) continue; // it was preempted
        s->started = clock_mono_ns();
        c->stats.requests++;
    }
}

static void make_room(struct compute *c) {
    const struct lane *lanes[LIMIT_PARALLEL];
    int32_t victim;
    while ((victim = batch_victim(lanes, lanes_of(c->queue, lanes), c->stats.cells_total)) >= 0) preempt(c, victim);
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
    int32_t n = lanes_of(c->queue, lanes), decodes = 0;
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
    if (atomic_load_explicit(&c->queue->closing, memory_order_relaxed)) return true;
    for (int32_t i = c->first; i < c->end; i++)
        if (!atomic_load_explicit(&c->members[i]->cancelled, memory_order_relaxed)) return false;
    return c->first < c->end;
}

static void step_failed(struct compute *c, int32_t rc) {
    enum { NO_SLOT = 1, ABORTED = 2 };
    if (rc == ABORTED) return; // its members are ended by the next turn
    struct queue *q = c->queue;
    if (rc == NO_SLOT && q->n_running > 1) {
        int32_t youngest = 0;
        for (int32_t i = 1; i < q->n_running; i++)
            if (q->running[i]->lane.serial > q->running[youngest]->lane.serial) youngest = i;
        c->barred = true; // first: ending one, as preempt may, lifts it
        preempt(c, youngest);
        return;
    }
    log_error("libllama could not compute a step (%d)", rc);
    for (int32_t i = c->first; i < c->end; i++)
        fail(c, c->members[i],
             rc == NO_SLOT ? "the KV cache has no room for this sequence"
                           : "the model could not be computed; the reason is in the worker's log");
    // what the cache holds now is not known: the others are read again
    while (q->n_running) preempt(c, q->n_running - 1);
    llama_memory_clear(c->memory, true);
}

// ---------------------------------------------------------------- after a step
static void say(struct compute *c, const struct sequence *s) {
    if (!c->text.len) return;
    json_t *one = json_pack("[I, s%, i]", (json_int_t)s->id, c->text.data, c->text.len, (int)s->drawn);
    if (!c->texts) c->texts = json_array();
    if (json_array_append_new(c->texts, one)) c->lost = true;
}

static void end_text(struct compute *c, struct sequence *s, enum finish how, int stop) {
    if (stop < 0) detok_flush(&s->detok, &c->text);
    say(c, s);
    finish(c, s, how, stop);
}

static void take_token(struct compute *c, struct sequence *s, llama_token token) {
    buf_clear(&c->text);
    if (!s->first) s->first = clock_mono_ns();
    s->drawn++;
    c->stats.decode_tokens++;
    if (llama_vocab_is_eog(c->model->vocab, token)) {
        end_text(c, s, FINISH_STOP, -1);
        return;
    }
    s->tokens[s->lane.len++] = token;
    model_piece(c->model, token, false, &c->piece);
    int stop = detok_push(&s->detok, buf_str(&c->piece), c->piece.len, &c->text);
    if (c->text.failed || c->piece.failed)
        fail(c, s, "out of memory for the text of a token");
    else if (stop >= 0)
        end_text(c, s, FINISH_STOP, stop);
    else if (s->lane.len >= s->most)
        end_text(c, s, FINISH_LENGTH, -1);
    else
        say(c, s);
}

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
            fail(c, s, "the model computed no number for any token; its file may be damaged");
        else
            take_token(c, s, token);
    }
}

// Computes shares [first, end), of which `decodes` generate. Returns false if libllama could not.
static bool pass(struct compute *c, int32_t first, int32_t end, int32_t decodes) {
    c->first = first;
    c->end = end;
    uint64_t begin = clock_mono_ns();
    fill(c);
    int32_t rc = llama_decode(c->model->ctx, c->batch), prompt = c->batch.n_tokens - decodes;
    llama_synchronize(c->model->ctx);
    uint64_t took = clock_mono_ns() - begin;
    c->stats.busy_ns += (int64_t)took;
    if (rc) {
        step_failed(c, rc);
        return false;
    }
    pace_learn(&c->pace, decodes, prompt, took);
    c->stats.prefill_tokens += prompt;
    if (prompt) queue_set_pace(c->queue, c->pace.prompt_ns);
    choose_tokens(c);
    return true;
}

static void step(struct compute *c) {
    int32_t decodes = plan(c), first = 0;
    c->stats.steps++;
    if (c->apart && decodes && decodes < c->n_shares) {
        if (!pass(c, 0, decodes, decodes)) return;
        flush(c); // the tokens do not wait for the prompts
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

static int init(struct compute *c, struct model *m, struct queue *q, struct channel *channel, long step_ms,
                struct err *e) {
    memset(c, 0, sizeof *c);
    c->model = m;
    c->queue = q;
    c->channel = channel;
    c->memory = llama_get_memory(m->ctx);
    c->step_ns = (uint64_t)(step_ms > 0 ? step_ms : 1) * NS_PER_MS;
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

static void turn(struct compute *c, bool asked) {
    end_cancelled(c);
    admit(c);
    make_room(c);
    bool worked = c->queue->n_running > 0;
    if (worked) step(c);
    flush(c);
    bool due = !c->queue->n_running || clock_mono_ns() - c->reported >= REPORT_NS;
    bool stale = !c->queue->n_running && (c->stats.running || c->stats.waiting); // all that was left has been cancelled
    if (asked || stale || (worked && due)) report(c);
}

int compute_run(struct model *m, struct queue *q, struct channel *channel, long step_ms, struct err *e) {
    struct compute c;
    int rc = init(&c, m, q, channel, step_ms, e);
    bool asked;
    while (!rc && queue_wait(q, &asked)) {
        turn(&c, asked);
        if (c.lost) rc = err_set(e, ERR_INTERNAL, "out of memory for what a step has produced");
    }
    llama_set_abort_callback(m->ctx, NULL, NULL);
    llama_batch_free(c.batch);
    candidates_free(&c.candidates);
    buf_free(&c.piece);
    buf_free(&c.text);
    buf_free(&c.ends);
    buf_free(&c.out);
    return rc;
}
