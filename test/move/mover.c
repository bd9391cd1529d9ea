#include "mover.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, const struct err *e) {
    fprintf(stderr, "mover: %s: %s\n", what, e ? e->msg : "");
    abort();
}

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        struct err must_why = {.code = ERR_NONE};                                                                      \
        if (call) die(#call, &must_why);                                                                               \
    } while (0)

struct engine *mover_engine(struct event_base *base, const struct engine_options *o) {
    char program[PATH_SIZE];
    struct err e;
    struct engine_status s;
    if (path_self(program, &e)) die("path_self", &e);
    struct engine *w = engine_start(base, program, o, NULL, NULL, &e);
    if (!w) die("engine_start", &e);
    for (engine_get_status(w, &s); s.state != ENGINE_READY; engine_get_status(w, &s)) {
        if (s.state == ENGINE_FAILED || s.restarts) die("the worker does not start", &s.why);
        event_base_loop(base, EVLOOP_ONCE);
    }
    return w;
}

static const struct kv_shape *shape_of(struct engine *w, struct engine_status *s) {
    engine_get_status(w, s);
    return &s->info.kv;
}

// ---------------------------------------------------------------- rows on their way
static int32_t unit_of(struct mover *m, const struct kv_rows *r, const struct kv_shape *s) {
    for (int32_t i = 0; i < m->n_units; i++)
        if (m->units[i].first == r->first && m->units[i].count == r->count) return i;
    if (!m->n_idle) die("more units were begun than there were credits", NULL);
    if (m->n_units == MOVER_UNITS) die("too many units", NULL);
    int32_t i = m->n_units++;
    m->units[i].first = r->first;
    m->units[i].count = r->count;
    m->units[i].left = s->layers * KV_KINDS;
    m->units[i].slot = m->idle_slots[--m->n_idle];
    return i;
}

static void install_ready(struct mover *m) {
    for (int32_t i = 0; i < m->n_units; i++) {
        if (m->units[i].left || m->units[i].first != m->installed) continue;
        m->installed += m->units[i].count;
        MUST(engine_install(m->away, m->away_id,
                            &(struct engine_unit){m->units[i].slot, m->units[i].first, m->units[i].count, false},
                            &must_why));
        m->units[i] = m->units[--m->n_units];
        i = -1; // the next one may be complete, too
    }
}

static void give_block(struct mover *m, int32_t block) {
    if (m->n_kept < m->plan.hoard)
        m->kept[m->n_kept++] = block;
    else
        MUST(engine_give_blocks(m->home, engine_arena(m->home), &block, 1));
}

static void cut_stream(struct mover *m) {
    m->cut = true;
    MUST(engine_export(m->home, m->home_id, -1, 0, &must_why));
}

// A piece of a state that travels whole.
static void on_piece(struct mover *m, const struct kv_rows *r) {
    const struct arena *from = engine_arena(m->home);
    size_t left = (size_t)(r->count - r->first),
           bytes = left < arena_block_bytes(from) ? left : arena_block_bytes(from);
    if (r->first != m->state_bytes || !m->n_idle) die("a piece out of order, or without a credit", NULL);
    int32_t slot = m->idle_slots[m->n_idle - 1];
    memcpy((unsigned char *)arena_slot(engine_arena(m->away), slot) + r->first, arena_block(from, r->block), bytes);
    m->state_bytes += (int32_t)bytes;
    give_block(m, r->block);
    if (m->plan.rows == ROWS_HALF) {
        cut_stream(m);
    } else if (m->state_bytes == r->count) {
        m->n_idle--;
        m->installed = INT32_MAX;
        MUST(engine_install(m->away, m->away_id, &(struct engine_unit){slot, 0, r->count, false}, &must_why));
    }
}

static void on_rows(void *arg, const struct kv_rows *r) {
    struct mover *m = arg;
    struct engine_status s;
    const struct kv_shape *shape = shape_of(m->home, &s);
    m->rows_seen++;
    if (m->cut) {
        give_block(m, r->block);
        return;
    }
    if (shape->form == KV_OPAQUE) {
        on_piece(m, r);
        return;
    }
    int32_t i = unit_of(m, r, shape);
    size_t bytes = (size_t)r->count * kv_row_bytes(shape, r->kind, shape->dtype);
    unsigned char *slot = arena_slot(engine_arena(m->away), m->units[i].slot);
    memcpy(slot + kv_plane_offset(shape, r->count, r->layer, r->kind), arena_block(engine_arena(m->home), r->block),
           bytes);
    if (--m->units[i].left < 0) die("rows told twice", NULL);
    give_block(m, r->block);
    install_ready(m);
}

static void on_installed(void *arg, int32_t upto, int32_t slot) {
    struct mover *m = arg;
    m->units_installed++;
    if (upto > m->installed) die("installed what was not sent", NULL);
    m->idle_slots[m->n_idle++] = slot;
    if (m->plan.rows == ROWS_HALF && !m->cut && upto >= m->n_prompt / 2) cut_stream(m);
    if (!m->cut) MUST(engine_credit(m->home, m->home_id, 1, &must_why));
}

// ---------------------------------------------------------------- who speaks
static void take_text(struct mover *m, const char *text, size_t len, int32_t tokens, int32_t token) {
    if (tokens != m->n_tokens + 1) die("tokens are told out of order", NULL);
    if (m->len + len >= MOVER_TEXT || m->n_tokens == MOVER_TOKENS) die("too much text", NULL);
    memcpy(m->text + m->len, text, len);
    m->len += len;
    m->tokens[m->n_tokens++] = token;
}

static void take_end(struct mover *m, const struct gen_result *r) {
    if (m->ended) die("two ends", NULL);
    m->ended = true;
    m->result = *r;
    snprintf(m->stop, sizeof m->stop, "%s", r->stop_string ? r->stop_string : "");
}

static void start_export(struct mover *m) {
    if (m->plan.rows != ROWS_NONE) MUST(engine_export(m->home, m->home_id, 0, m->plan.slots, &must_why));
}

static void on_home_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t token) {
    struct mover *m = arg;
    if (m->speaks_away) die("both speak", NULL);
    if (m->paused && !m->back_paused) die("text after the pause", NULL);
    take_text(m, text, len, tokens, token);
    if (m->away && m->plan.late_export && tokens == 1) start_export(m);
    if (m->away && tokens == m->plan.pause_after) MUST(engine_pause(m->home, m->home_id, &must_why));
}

static void on_home_paused(void *arg, int32_t tokens, int32_t past) {
    struct mover *m = arg;
    if (tokens != m->n_tokens || past != m->n_prompt + tokens - 1) die("the pause tells other figures", NULL);
    m->paused = m->speaks_away = true;
    m->past = past;
    int32_t from = m->plan.rows == ROWS_ALL ? past : -1;
    MUST(engine_go(m->away, m->away_id, m->tokens, m->n_tokens, from, &must_why));
    if (!m->plan.back) engine_cancel(m->home, m->home_id);
}

static void on_away_paused(void *arg, int32_t tokens, int32_t past) {
    struct mover *m = arg;
    if (tokens != m->n_tokens || past != m->n_prompt + tokens - 1) die("the second pause tells other figures", NULL);
    int32_t known = m->past + 1 - m->n_prompt;
    cut_stream(m);
    m->back_paused = true;
    m->speaks_away = false;
    MUST(engine_go(m->home, m->home_id, m->tokens + known, m->n_tokens - known, -1, &must_why));
    engine_cancel(m->away, m->away_id);
}

static void on_home_end(void *arg, const struct gen_result *r) {
    struct mover *m = arg;
    if (m->away && !m->back_paused) engine_cancel(m->away, m->away_id); // it ended before it could be moved
    take_end(m, r);
}

static void on_home_fail(void *arg, const struct err *why) {
    struct mover *m = arg;
    m->failed = m->home_failed = true;
    m->why = *why;
}

static void on_away_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t token) {
    struct mover *m = arg;
    if (!m->speaks_away) die("the other speaks before its time", NULL);
    take_text(m, text, len, tokens, token);
    if (m->plan.back && tokens == 2 * m->plan.pause_after) MUST(engine_pause(m->away, m->away_id, &must_why));
}

static void on_away_end(void *arg, const struct gen_result *r) { take_end(arg, r); }

static void on_away_fail(void *arg, const struct err *why) {
    struct mover *m = arg;
    m->failed = true;
    m->why = *why;
}

static void on_away_begin(void *arg, const struct gen_begin *b) {
    struct mover *m = arg;
    if (b->prompt_tokens != m->n_prompt) die("another prompt", NULL);
    if (!m->plan.late_export) start_export(m);
    MUST(engine_go(m->home, m->home_id, NULL, 0, -1, &must_why));
}

static void on_home_begin(void *arg, const struct gen_begin *b) {
    static const struct gen_events events = {.begin = on_away_begin,
                                             .text = on_away_text,
                                             .end = on_away_end,
                                             .fail = on_away_fail,
                                             .installed = on_installed,
                                             .paused = on_away_paused};
    struct mover *m = arg;
    m->n_prompt = b->prompt_tokens;
    if (!m->away) return;
    if (!b->tokens) die("the prompt's tokens are missing", NULL);
    struct gen_request r = *m->request;
    r.kind = PROMPT_TOKENS;
    r.prompt = json_array();
    for (int32_t i = 0; i < b->prompt_tokens; i++) json_array_append_new(r.prompt, json_integer(b->tokens[i]));
    r.hold = r.show_tokens = true;
    MUST(engine_submit(m->away, &r, &events, m, &m->away_id, &must_why));
    json_decref(r.prompt);
}

// ---------------------------------------------------------------- the whole way
void mover_start(struct mover *m, struct event_base *base, struct engine *home, struct engine *away,
                 struct gen_request *r, const struct plan *p) {
    static const struct gen_events events = {.begin = on_home_begin,
                                             .text = on_home_text,
                                             .end = on_home_end,
                                             .fail = on_home_fail,
                                             .rows = on_rows,
                                             .paused = on_home_paused};
    memset(m, 0, sizeof *m);
    m->base = base;
    m->home = home;
    m->away = away;
    m->request = r;
    if (p) m->plan = *p;
    r->hold = away != NULL;
    r->show_tokens = true;
    if (away && m->plan.rows != ROWS_NONE) {
        MUST(arena_take(engine_arena(away), m->plan.slots, m->slots, &must_why));
        m->n_idle = m->n_slots = m->plan.slots;
        memcpy(m->idle_slots, m->slots, sizeof m->slots);
    }
    MUST(engine_submit(home, r, &events, m, &m->home_id, &must_why));
}

int mover_run(struct mover *m, struct event_base *base, struct engine *home, struct engine *away, struct gen_request *r,
              const struct plan *p) {
    mover_start(m, base, home, away, r, p);
    while (!m->ended && !m->failed) event_base_loop(base, EVLOOP_ONCE);
    return m->failed ? -1 : 0;
}

void mover_close(struct mover *m) {
    if (!m->away) return;
    engine_cancel(m->home, m->home_id);
    engine_cancel(m->away, m->away_id);
    for (int32_t i = 0; i < m->n_slots; i++) arena_give(engine_arena(m->away), m->slots[i]);
    MUST(engine_give_blocks(m->home, engine_arena(m->home), m->kept, m->n_kept));
    m->n_kept = 0;
}
