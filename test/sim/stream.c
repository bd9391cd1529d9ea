// Rows on their way: cut into units and frames here, over several connections at once, and put together there.
#include "place.h"

#include <stdlib.h>
#include <string.h>

enum { ROW = sizeof(uint64_t), PIECE_ROWS = 16 /* of a state */ };

struct frame {
    struct kvframe head;
    uint8_t payload[PIECE_ROWS * 2 * ROW];
};

struct credit {
    uint64_t stream;
};

static size_t slot_bytes(const struct cluster *c) {
    return c->shape.form == KV_OPAQUE ? (size_t)MODEL_MOST * ROW : kv_slot_bytes(&c->shape, c->shape.unit);
}

// ---------------------------------------------------------------- arriving
int stream_expect(struct place *p, struct seq *s, struct err *e) {
    if (p->slots_used + STREAM_SLOTS > p->slots) return err_set(e, ERR_BUSY, "no slots");
    s->in = assembly_new(&p->of->shape, s->past, MODEL_MOST, STREAM_SLOTS, slot_bytes(p->of), e);
    if (!s->in) return -1;
    s->slots = must_alloc(STREAM_SLOTS * slot_bytes(p->of));
    p->slots_used += STREAM_SLOTS;
    return 0;
}

void stream_refuse(struct place *p, struct seq *s) {
    if (!s->in) return;
    assembly_free(s->in);
    free(s->slots);
    s->in = NULL;
    p->slots_used -= STREAM_SLOTS;
}

// What layer and kind make of a row's value, so that rows of different places are not taken for one another.
static uint64_t disguise(uint64_t row, int32_t layer, int kind) {
    return row ^ ((uint64_t)(2 * layer + kind + 1) * 0x9e3779b97f4a7c15u);
}

static uint64_t assembled(const struct cluster *c, const uint8_t *slot, int32_t count, int32_t i, int32_t layer,
                          int kind) {
    uint64_t row;
    memcpy(&row, slot + kv_plane_offset(&c->shape, count, layer, (enum kv_kind)kind) + (size_t)i * ROW, ROW);
    return disguise(row, layer, kind);
}

static void copy_unit(struct cluster *c, struct seq *s, const uint8_t *slot, int32_t first, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        s->rows[first + i] = assembled(c, slot, count, i, 0, KV_K);
        for (int32_t at = 1; at < c->shape.layers * KV_KINDS; at++)
            if (assembled(c, slot, count, i, at / KV_KINDS, at % KV_KINDS) != s->rows[first + i])
                world_break(&c->w, "an incomplete unit was installed");
    }
}

static void grant(void *place, void *credit) {
    struct place *p = place;
    for (int i = 0; i < SEQUENCES; i++) {
        struct seq *s = &p->seqs[i];
        if (s->state == SEQ_NONE || s->to == NOBODY || s->stream != ((struct credit *)credit)->stream) continue;
        s->credits++;
        stream_pump(p, s);
        place_check_pause(p, s);
        return;
    }
}

static void return_credit(struct place *p, const struct seq *s) {
    struct credit *credit = must_alloc(sizeof *credit);
    struct place *to = &p->of->places[s->open.source];
    credit->stream = s->open.sequence;
    wire_send(&p->of->peers[p->index][to->index], 0, grant, to, credit);
}

static void install_unit(struct place *p, struct seq *s, int32_t slot, int32_t first, int32_t count) {
    const uint8_t *bytes = s->slots + (size_t)slot * slot_bytes(p->of);
    if (p->of->shape.form == KV_OPAQUE) {
        s->past = count / ROW;
        memcpy(s->rows, bytes, (size_t)count);
    } else if (first != s->past) {
        world_break(&p->of->w, "rows from %d after %d at place %d", (int)first, (int)s->past, p->index);
        return;
    } else {
        copy_unit(p->of, s, bytes, first, count);
        s->past += count;
        if (s->to != NOBODY && s->past > s->next && first < s->own) s->own = first > s->next ? first : s->next;
    }
    if (assembly_installed(s->in, slot)) world_break(&p->of->w, "a slot was installed twice");
    return_credit(p, s);
    struct news n = {.kind = NEWS_INSTALLED, .sequence = s->open.sequence, .upto = s->past};
    place_tell(p, &n);
}

static void install(void *place, void *sequence) {
    struct place *p = place;
    struct seq *s = place_find(p, *(uint64_t *)sequence);
    int32_t slot, first, count;
    while (s && s->in && assembly_next(s->in, &slot, &first, &count)) {
        install_unit(p, s, slot, first, count);
        if (s->state == SEQ_WAITING && s->past >= s->from) place_run(p, s);
    }
}

// What a sender has not handed to its connections yet goes with it.
static bool forgotten(struct place *p, const struct seq *s) {
    struct place *from = &p->of->places[s->open.source];
    for (int i = 0; i < SEQUENCES; i++)
        if (from->seqs[i].state != SEQ_NONE && from->seqs[i].to == p->index && from->seqs[i].stream == s->open.sequence)
            return false;
    return world_chance(&p->of->w, 50);
}

static void receive(void *place, void *msg) {
    struct place *p = place;
    const struct frame *f = msg;
    struct seq *s = place_find(p, f->head.stream);
    struct piece piece;
    struct err e;
    if (!s || !s->in || forgotten(p, s)) return; // nobody waits for it any more
    if (assembly_claim(s->in, &f->head, &piece, &e)) {
        world_break(&p->of->w, "place %d refused a frame: %s", p->index, e.msg);
        return;
    }
    memcpy(s->slots + (size_t)piece.slot * slot_bytes(p->of) + piece.offset, f->payload, f->head.length);
    if (!assembly_arrived(s->in, &piece)) return;
    uint64_t *sequence = must_alloc(sizeof *sequence);
    *sequence = f->head.stream;
    world_at(&p->of->w, world_below(&p->of->w, p->install_us), &p->frozen, install, p, sequence);
}

// ---------------------------------------------------------------- leaving
static void send_frame(struct place *p, const struct seq *s, struct frame *f) {
    struct cluster *c = p->of;
    struct wire *data = &c->data[p->index][s->to][world_below(&c->w, DATA_LINKS)];
    f->head.stream = s->stream;
    wire_send(data, (int)(f->head.length / ROW), receive, &c->places[s->to], f);
}

static void send_unit(struct place *p, const struct seq *s, int32_t first, int32_t count) {
    for (int32_t at = 0; at < p->of->shape.layers * KV_KINDS; at++) {
        struct frame *f = must_alloc(sizeof *f);
        f->head = (struct kvframe){.type = KVFRAME_ROWS,
                                   .layer = (uint32_t)(at / KV_KINDS),
                                   .kind = (uint8_t)(at % KV_KINDS),
                                   .dtype = KV_F16,
                                   .first = (uint32_t)first,
                                   .count = (uint32_t)count,
                                   .length = (uint32_t)count * ROW};
        for (int32_t i = 0; i < count; i++) {
            uint64_t row = disguise(s->rows[first + i], at / KV_KINDS, at % KV_KINDS);
            memcpy(f->payload + (size_t)i * ROW, &row, ROW);
        }
        send_frame(p, s, f);
    }
}

static void send_state(struct place *p, struct seq *s) {
    for (int32_t first = 0; first < s->past; first += PIECE_ROWS) {
        struct frame *f = must_alloc(sizeof *f);
        int32_t count = s->past - first < PIECE_ROWS ? s->past - first : PIECE_ROWS;
        f->head = (struct kvframe){.type = KVFRAME_STATE,
                                   .first = (uint32_t)first * ROW,
                                   .count = (uint32_t)s->past * ROW,
                                   .length = (uint32_t)count * ROW};
        memcpy(f->payload, s->rows + first, (size_t)count * ROW);
        send_frame(p, s, f);
    }
    s->state_sent = true;
}

int32_t stream_rows(const struct seq *s) { return s->past < s->own ? s->past : s->own; }

void stream_pump(struct place *p, struct seq *s) {
    if (s->to == NOBODY) return;
    if (p->of->shape.form == KV_OPAQUE) {
        if (s->pausing && !s->stepping && !s->state_sent) send_state(p, s);
        return;
    }
    for (; s->credits > 0 && s->next < stream_rows(s); s->credits--) {
        int32_t left = stream_rows(s) - s->next, count = left < p->of->shape.unit ? left : p->of->shape.unit;
        p->of->sent_to[s->open.job][s->to] += count;
        send_unit(p, s, s->next, count);
        s->next += count;
    }
}

// ---------------------------------------------------------------- breaking
static void tell_cut(void *place, void *stream) {
    struct news n = {.kind = NEWS_CUT, .sequence = *(uint64_t *)stream};
    err_set(&n.why, ERR_UNREACHABLE, "the stream broke");
    place_tell(place, &n);
}

static void notice(struct place *p, uint64_t stream) {
    uint64_t *copy = must_alloc(sizeof *copy);
    *copy = stream;
    world_at(&p->of->w, 0, &p->frozen, tell_cut, p, copy);
}

void stream_break(struct cluster *c, int from, int to) {
    struct place *a = &c->places[from], *b = &c->places[to];
    for (int i = 0; i < DATA_LINKS; i++) {
        wire_break(&c->data[from][to][i]);
        c->data[from][to][i].up = a->up && b->up;
    }
    for (int i = 0; i < SEQUENCES; i++) {
        struct seq *s = &a->seqs[i];
        if (s->state == SEQ_NONE || s->to != to) continue;
        struct seq *at_b = place_find(b, s->stream);
        unsigned who = (unsigned)world_below(&c->w, 3);
        if (at_b && at_b->in && who != 0) {
            stream_refuse(b, at_b);
            notice(b, s->stream);
        }
        if (who == 1) continue; // only the receiver has seen it
        notice(a, s->stream);
        s->to = NOBODY;
        place_check_pause(a, s);
    }
}
