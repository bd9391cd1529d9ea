// Sequences on the compute thread: what is told of them, and how they end.
#include "base/clock.h"
#include "engine/worker/compute_internal.h"

// ---------------------------------------------------------------- what the daemon hears
void member_tell(struct compute *c, json_t *msg) {
    if (frame_append(&c->ends, msg)) c->lost = true;
    json_decref(msg);
}

void member_flush(struct compute *c) {
    buf_clear(&c->out);
    if (c->texts) {
        json_t *msg = json_pack("{s:s, s:o}", "t", "tokens", "d", c->texts);
        c->texts = NULL;
        if (frame_append(&c->out, msg)) c->lost = true;
        json_decref(msg);
    }
    if (buf_append(&c->out, buf_str(&c->ends), c->ends.len)) c->lost = true;
    if (!c->lost && c->out.len) channel_write(c->channel, &c->out);
    buf_clear(&c->ends);
}

static void say(struct compute *c, const struct sequence *s, llama_token token) {
    json_t *one = NULL;
    if (s->show)
        one = json_pack("[I, s%, i, i]", (json_int_t)s->id, buf_str(&c->text), c->text.len, (int)s->drawn, (int)token);
    else if (c->text.len)
        one = json_pack("[I, s%, i]", (json_int_t)s->id, c->text.data, c->text.len, (int)s->drawn);
    else
        return;
    if (!c->texts) c->texts = json_array();
    if (json_array_append_new(c->texts, one)) c->lost = true;
}

// ---------------------------------------------------------------- how they go
static void leave(struct compute *c, struct sequence *s) {
    llama_memory_seq_rm(c->memory, s->slot, -1, -1);
    if (s->slot != c->model->measuring) c->slots[c->n_slots++] = s->slot;
    s->slot = -1;
    s->lane.past = 0;
    s->exact = INT32_MAX;
    c->again = true;
}

// Its rows stay, for a sequence that begins as it does.
static void keep(struct compute *c, struct sequence *s) {
    int32_t rows = s->lane.past < s->lane.len ? s->lane.past : s->lane.len;
    if (!c->keeps || s->bare || rows < KEEP_LEAST) {
        leave(c, s);
        return;
    }
    llama_memory_seq_rm(c->memory, s->slot, rows, -1);
    int32_t idle = keeper_add(kept_begin(c), s->slot, s->tokens, rows, s->exact);
    kept_end(c);
    s->tokens = NULL;
    s->slot = -1;
    if (idle >= 0) {
        llama_memory_seq_rm(c->memory, idle, -1, -1);
        c->slots[c->n_slots++] = idle;
    }
    while (c->queue->kept.n > 1 && keeper_cells(&c->queue->kept) > c->keep_most) kept_evict(c);
    c->again = true;
}

static void drop(struct compute *c, struct sequence *s, void (*way)(struct compute *, struct sequence *)) {
    int32_t i = 0;
    while (c->queue->running[i] != s) i++;
    way(c, queue_remove(c->queue, i));
    sequence_free(s);
    c->barred = false;
}

void member_finish(struct compute *c, struct sequence *s, enum finish how, int stop) {
    struct gen_result result;
    sequence_result(s, how, stop, &result);
    member_tell(c, result_encode(s->id, &result));
    drop(c, s, keep);
}

void member_fail(struct compute *c, struct sequence *s, enum err_code code, const char *why) {
    struct err e;
    err_set(&e, code, "%s", why);
    member_tell(c, error_encode(s->id, &e));
    drop(c, s, leave);
}

void member_preempt(struct compute *c, int32_t i) {
    struct sequence *s = c->queue->running[i];
    if (s->lane.parked) { // what was installed would be lost
        member_fail(c, s, ERR_BUSY, "the KV cache has no room to keep a sequence that waits: try again later");
        return;
    }
    leave(c, s);
    if (queue_preempt(c->queue, i)) {
        c->stats.preemptions++;
        return;
    }
    s->slot =
        s->bare ? c->model->measuring : c->slots[--c->n_slots]; // cancelled meanwhile: it keeps its place till then
    member_finish(c, s, FINISH_CANCELLED, -1);
}

// ---------------------------------------------------------------- tokens
// Adds a token, and to c->text what may be shown of it. Returns whether it ends the sequence: *how, *stop, or *why.
static bool add_token(struct compute *c, struct sequence *s, llama_token token, enum finish *how, int *stop,
                      const char **why) {
    buf_clear(&c->text);
    s->drawn++;
    *how = FINISH_STOP;
    *stop = -1;
    *why = NULL;
    if (llama_vocab_is_eog(c->model->vocab, token)) return true;
    s->tokens[s->lane.len++] = token;
    model_piece(c->model, token, false, &c->piece);
    *stop = detok_push(&s->detok, buf_str(&c->piece), c->piece.len, &c->text);
    if (c->text.failed || c->piece.failed) *why = "out of memory for the text of a token";
    if (*why || *stop >= 0) return true;
    *how = FINISH_LENGTH;
    return s->lane.len >= s->most;
}

void member_take_token(struct compute *c, struct sequence *s, llama_token token) {
    enum finish how;
    int stop;
    const char *why;
    if (!s->first) s->first = clock_mono_ns();
    if (!s->bare) c->stats.decode_tokens++;
    bool ends = add_token(c, s, token, &how, &stop, &why);
    if (why) {
        member_fail(c, s, ERR_INTERNAL, why);
        return;
    }
    if (ends && stop < 0) detok_flush(&s->detok, &c->text);
    say(c, s, token);
    if (ends) member_finish(c, s, how, stop);
}

bool member_replay_token(struct compute *c, struct sequence *s, llama_token token) {
    enum finish how;
    int stop;
    const char *why;
    sampler_see(s->sampler, token);
    if (!add_token(c, s, token, &how, &stop, &why)) return true;
    if (why)
        member_fail(c, s, ERR_INTERNAL, why);
    else
        member_finish(c, s, how, stop);
    return false;
}
