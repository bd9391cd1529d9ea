// What exporting costs a prefill: export_bench MODEL [TOKENS [ROUNDS]]. Each round reads the same prompt with
// and without an export whose rows are dropped at once.
#include "base/clock.h"
#include "engine/worker/worker.h"
#include "mover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    struct engine *w;
    uint64_t id, begun, took;
    bool export, done;
    int rows;
};

static void on_begin(void *arg, const struct gen_begin *b) {
    struct reading *r = arg;
    struct err e;
    (void)b;
    r->begun = clock_mono_ns();
    if (r->export && engine_export(r->w, r->id, 0, 1 << 20, &e)) abort();
    if (engine_go(r->w, r->id, NULL, 0, -1, &e)) abort();
}
static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t token) {
    struct reading *r = arg;
    (void)text, (void)len, (void)token;
    if (tokens == 1) r->took = clock_mono_ns() - r->begun;
}
static void on_end(void *arg, const struct gen_result *result) {
    (void)result;
    ((struct reading *)arg)->done = true;
}
static void on_fail(void *arg, const struct err *why) {
    (void)arg;
    fprintf(stderr, "%s\n", why->msg);
    exit(1);
}
static void on_rows(void *arg, const struct kv_rows *rows) {
    struct reading *r = arg;
    r->rows++;
    if (engine_give_blocks(r->w, engine_arena(r->w), &rows->block, 1)) abort();
}

static double read_once(struct event_base *base, struct engine *w, int tokens, bool export, int *rows) {
    static const struct gen_events events = {
        .begin = on_begin, .text = on_text, .end = on_end, .fail = on_fail, .rows = on_rows};
    struct reading r = {.w = w, .export = export};
    struct gen_request q;
    struct err e;
    gen_request_init(&q);
    q.kind = PROMPT_TOKENS;
    q.prompt = json_array();
    for (int i = 0; i < tokens; i++) json_array_append_new(q.prompt, json_integer(3 + i * 37 % 250));
    q.max_tokens = 1;
    q.hold = q.show_tokens = true;
    if (engine_submit(w, &q, &events, &r, &r.id, &e)) on_fail(NULL, &e);
    while (!r.done) event_base_loop(base, EVLOOP_ONCE);
    gen_request_free(&q);
    *rows = r.rows;
    return (double)r.took / 1e9;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "worker")) return worker_main(1, argv + 1);
    int tokens = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 8000;
    int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 3;
    struct engine_options o = {.ctx = tokens + 64,
                               .kv_cells = tokens + 1024,
                               .parallel = 1,
                               .queue = 4,
                               .chunk = 512,
                               .step_ms = 1000,
                               .kv_buffer = 512,
                               .kv_type = "f16",
                               .model_name = "bench"};
    if (argc < 2 || tokens < 1 || rounds < 1) {
        fprintf(stderr, "usage: export_bench MODEL [TOKENS [ROUNDS]]\n");
        return 2;
    }
    snprintf(o.model_path, sizeof o.model_path, "%s", argv[1]);
    struct event_base *base = event_base_new();
    struct engine *w = mover_engine(base, &o);
    int rows = 0, none = 0;
    read_once(base, w, tokens < 512 ? tokens : 512, true, &rows); // warm up
    for (int i = 0; i < rounds; i++) {
        double without = read_once(base, w, tokens, false, &none), with = read_once(base, w, tokens, true, &rows);
        printf("%d tokens: %.3f s without, %.3f s with export (%d messages of rows), ratio %.4f\n", tokens, without,
               with, rows, with / without);
    }
    engine_stop(w);
    event_base_dispatch(base);
    event_base_free(base);
    return 0;
}
