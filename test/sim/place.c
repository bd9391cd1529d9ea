#include "place.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 32 /* prompt rows of a step */, TOKENIZE_US = 3000 };

struct step {
    uint64_t life;
    int n;
    uint64_t sequences[SEQUENCES];
    int32_t rows[SEQUENCES];
};

static void hear(void *cluster, void *news) {
    struct cluster *c = cluster;
    c->heard(c->arg, news);
}

void place_tell(struct place *p, const struct news *n) {
    struct news *copy = must_alloc(sizeof *copy);
    *copy = *n;
    copy->place = p->index;
    wire_send(&p->of->news[p->index], 0, hear, p->of, copy);
}

static void tell_failed(struct place *p, uint64_t sequence, enum err_code code, const char *why) {
    struct news n = {.kind = NEWS_FAILED, .sequence = sequence};
    err_set(&n.why, code, "place %d: %s", p->index, why);
    place_tell(p, &n);
}

struct seq *place_find(struct place *p, uint64_t sequence) {
    for (int i = 0; i < SEQUENCES; i++)
        if (p->seqs[i].state != SEQ_NONE && p->seqs[i].open.sequence == sequence) return &p->seqs[i];
    return NULL;
}

// ---------------------------------------------------------------- coming and going
static void greet(void *place, void *sequence) {
    struct place *p = place;
    struct world *w = &p->of->w;
    struct seq *s = place_find(p, *(uint64_t *)sequence);
    struct err why;
    if (!s || s->state != SEQ_HELD) return;
    if (world_chance(w, (unsigned)p->of->caches)) s->past = (int32_t)world_below(w, (uint64_t)s->n_prompt);
    for (int32_t i = 0; i < s->past; i++) s->rows[i] = model_row(s->tokens[i], i, s->rows);
    bool takes = s->open.source != NOBODY && !stream_expect(p, s, &why);
    struct news n = {.kind = NEWS_OPENED, .sequence = s->open.sequence, .n = s->n_prompt, .cached = s->past};
    s->cached = s->past;
    n.credits = takes ? STREAM_SLOTS : 0;
    memcpy(n.tokens, s->tokens, sizeof n.tokens);
    place_tell(p, &n);
}

void place_admit(struct place *p) {
    for (;;) {
        struct seq *next = NULL;
        int active = 0;
        for (int i = 0; i < SEQUENCES; i++) {
            struct seq *s = &p->seqs[i];
            active += s->state > SEQ_QUEUED;
            if (s->state == SEQ_QUEUED && (!next || s->open.sequence < next->open.sequence)) next = s;
        }
        if (!next || !p->loaded || active >= p->parallel) return;
        next->state = SEQ_HELD;
        uint64_t *sequence = must_alloc(sizeof *sequence);
        *sequence = next->open.sequence;
        world_at(&p->of->w, world_below(&p->of->w, TOKENIZE_US), &p->frozen, greet, p, sequence);
    }
}

void place_release(struct place *p, struct seq *s) {
    stream_refuse(p, s);
    *s = (struct seq){.state = SEQ_NONE};
    place_admit(p);
}

static void take_open(struct place *p, const struct order *o) {
    struct seq *s = NULL;
    int queued = 0;
    for (int i = 0; i < SEQUENCES; i++) {
        if (p->seqs[i].state == SEQ_NONE) s = &p->seqs[i];
        queued += p->seqs[i].state == SEQ_QUEUED;
    }
    if (!s || queued >= p->queue) {
        tell_failed(p, o->sequence, ERR_BUSY, "full");
        return;
    }
    if (p->small) {
        tell_failed(p, o->sequence, ERR_LIMIT, "the prompt is too long");
        return;
    }
    *s = (struct seq){.state = SEQ_QUEUED, .open = *o, .to = NOBODY, .from = -1, .n_prompt = o->n, .len = o->n};
    s->link = p->of->orders[p->index].epoch;
    memcpy(s->tokens, o->tokens, (size_t)o->n * sizeof *o->tokens);
    place_admit(p);
}

// ---------------------------------------------------------------- steps
static void end(struct place *p, struct seq *s, enum finish how) {
    struct news n = {.kind = NEWS_ENDED, .sequence = s->open.sequence, .count = s->writer.tokens, .how = how};
    n.n = s->n_prompt;
    n.cached = s->cached;
    place_tell(p, &n);
    place_release(p, s);
}

static void draw_token(struct place *p, struct seq *s) {
    int32_t token = model_draw(s->open.seed, s->len, s->rows);
    struct news n = {.kind = NEWS_TEXT, .sequence = s->open.sequence, .token = token};
    n.text = writer_take(&s->writer, token, s->open.most);
    n.count = s->writer.tokens;
    if (n.text.len || !n.text.ends || p->telling_last) place_tell(p, &n);
    if (n.text.ends)
        end(p, s, n.text.how);
    else
        s->tokens[s->len++] = token;
}

static void compute(struct place *p, struct seq *s, int32_t rows) {
    for (; rows > 0 && s->past < s->len; rows--, s->past++) {
        s->rows[s->past] = model_row(s->tokens[s->past], s->past, s->rows);
        p->of->rows_of[s->open.job]++;
    }
    if (s->past == s->len) draw_token(p, s);
    if (s->state == SEQ_NONE) return;
    stream_pump(p, s);
    place_check_pause(p, s);
}

// Its rows are needed for another sequence, and will be computed anew.
static void preempt(struct place *p) {
    struct seq *s = &p->seqs[world_below(&p->of->w, SEQUENCES)];
    if ((s->state != SEQ_RUNNING && s->state != SEQ_PAUSED) || s->stepping) return;
    s->past = 0;
    place_check_pause(p, s);
}

static void finish_step(void *place, void *step) {
    struct place *p = place;
    struct step *done = step;
    if (done->life != p->life) return;
    p->stepping = false;
    for (int i = 0; i < done->n; i++) {
        struct seq *s = place_find(p, done->sequences[i]);
        if (!s || !s->stepping) continue;
        s->stepping = false;
        compute(p, s, done->rows[i]);
    }
    if (world_chance(&p->of->w, (unsigned)p->of->preempts)) preempt(p);
    place_wake(p);
}

void place_wake(struct place *p) {
    struct step *step;
    uint64_t took = p->step_us;
    if (p->stepping || !p->loaded) return;
    step = must_alloc(sizeof *step);
    step->life = p->life;
    for (int i = 0; i < SEQUENCES; i++) {
        struct seq *s = &p->seqs[i];
        if (s->state != SEQ_RUNNING || s->pausing) continue;
        int32_t rows = s->len - s->past < CHUNK ? s->len - s->past : CHUNK;
        took += s->past + 1 == s->len ? p->token_us : p->prompt_us * (uint64_t)rows;
        s->stepping = true;
        step->sequences[step->n] = s->open.sequence;
        step->rows[step->n++] = rows;
    }
    if (!step->n) {
        free(step);
        return;
    }
    p->stepping = true;
    took += world_below(&p->of->w, took / 4 + 1);
    world_at(&p->of->w, took, &p->frozen, finish_step, p, step);
}

void place_check_pause(struct place *p, struct seq *s) {
    if (!s->pausing || s->stepping) return;
    stream_pump(p, s);
    bool sent = p->of->shape.form == KV_OPAQUE ? s->state_sent : s->next >= stream_rows(s);
    if (s->to != NOBODY && !sent) return;
    s->pausing = false;
    s->state = SEQ_PAUSED;
    struct news n = {.kind = NEWS_PAUSED, .sequence = s->open.sequence, .count = s->len - s->n_prompt, .past = s->past};
    place_tell(p, &n);
}

// ---------------------------------------------------------------- orders
void place_run(struct place *p, struct seq *s) {
    stream_refuse(p, s); // what arrives from now on is too late
    s->state = SEQ_RUNNING;
    s->from = -1;
    if (s->past >= s->len) s->past = s->len - 1; // rows of tokens that it does not have; the last row gives the logits
    place_wake(p);
}

static void take_start(struct place *p, struct seq *s, const struct order *o) {
    bool again = o->n == 0 && o->from < 0;
    if (again && s->state == SEQ_RUNNING) return; // its last rows came before this order
    again = again && s->state == SEQ_WAITING;
    if (s->state != SEQ_HELD && s->state != SEQ_PAUSED && !again) {
        world_break(&p->of->w, "a sequence in state %d is started at place %d", (int)s->state, p->index);
        return;
    }
    struct written last = {.ends = false};
    for (int32_t i = 0; i < o->n && !last.ends; i++) {
        last = writer_take(&s->writer, o->tokens[i], s->open.most);
        s->tokens[s->len++] = o->tokens[i];
    }
    if (last.ends) {
        end(p, s, last.how);
        return;
    }
    s->state = SEQ_WAITING;
    s->from = o->from;
    if (s->past >= s->from) place_run(p, s);
}

static void take_export(struct place *p, struct seq *s, const struct order *o) {
    s->to = o->first < 0 ? NOBODY : o->to;
    s->stream = o->stream;
    s->next = o->first;
    s->credits = o->n;
    s->own = MODEL_MOST;
    s->state_sent = false;
    stream_pump(p, s);
    place_check_pause(p, s);
}

void place_order(void *place, void *order) {
    struct place *p = place;
    const struct order *o = order;
    struct seq *s = place_find(p, o->sequence);
    if (o->kind == ORDER_OPEN) take_open(p, o);
    if (!s) return; // it has ended meanwhile
    if (o->kind == ORDER_START) take_start(p, s, o);
    if (o->kind == ORDER_EXPORT) take_export(p, s, o);
    if (o->kind == ORDER_DROP) place_release(p, s);
    if (o->kind == ORDER_PAUSE && s->state == SEQ_RUNNING) {
        s->pausing = true;
        place_check_pause(p, s);
    } else if (o->kind == ORDER_PAUSE)
        world_break(&p->of->w, "a sequence in state %d is paused at place %d", (int)s->state, p->index);
}
