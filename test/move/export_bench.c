// What exporting costs a prefill: export_bench MODEL [TOKENS [ROUNDS [THREADS]]]. Each round reads the same prompt with
// and without an export whose rows are dropped at once; wall time, and CPU time of the worker, which tells more on a
// machine that does other things besides.
#include "base/clock.h"
#include "engine/worker/worker.h"
#include "mover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct reading {
    struct engine *w;
    uint64_t id, begun, took;
    bool export, done;
    int rows;
};

// Seconds of CPU that a process has used; 0 where the system does not tell it this way.
static double cpu_of(const struct engine *w) {
    struct engine_status s;
    char path[64];
    unsigned long user = 0, sys = 0;
    engine_get_status(w, &s);
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)s.pid);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2) user = 0;
    if (f) fclose(f);
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

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

struct cost {
    double wall, cpu;
    int rows;
};

static struct cost read_once(struct event_base *base, struct engine *w, int tokens, bool export) {
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
    double cpu = cpu_of(w);
    if (engine_submit(w, &q, &events, &r, &r.id, &e)) on_fail(NULL, &e);
    while (!r.done) event_base_loop(base, EVLOOP_ONCE);
    gen_request_free(&q);
    return (struct cost){(double)r.took / 1e9, cpu_of(w) - cpu, r.rows};
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "worker")) return worker_main(1, argv + 1);
    int tokens = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 8000;
    int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 3;
    long threads = argc > 4 ? strtol(argv[4], NULL, 10) : 0;
    struct engine_options o = {.ctx = tokens + 64,
                               .kv_cells = tokens + 1024,
                               .parallel = 1,
                               .queue = 4,
                               .chunk = 512,
                               .threads = threads,
                               .step_ms = 1000,
                               .kv_buffer = 512,
                               .kv_type = "f16",
                               .model_name = "bench"};
    if (argc < 2 || tokens < 1 || rounds < 1) {
        fprintf(stderr, "usage: export_bench MODEL [TOKENS [ROUNDS [THREADS]]]\n");
        return 2;
    }
    snprintf(o.model_path, sizeof o.model_path, "%s", argv[1]);
    struct event_base *base = event_base_new();
    struct engine *w = mover_engine(base, &o);
    read_once(base, w, tokens < 512 ? tokens : 512, true); // warm up
    struct cost sum[2] = {{0}};
    for (int i = 0; i < rounds; i++) {
        struct cost one[2];
        for (int k = 0; k < 2; k++) {
            int with = (k + i) % 2; // each goes first in turn
            one[with] = read_once(base, w, tokens, with);
            sum[with].wall += one[with].wall;
            sum[with].cpu += one[with].cpu;
        }
        printf("%d tokens: wall %.2f s, with export %.2f s; cpu %.2f s, with export %.2f s; %d messages of rows\n",
               tokens, one[0].wall, one[1].wall, one[0].cpu, one[1].cpu, one[1].rows);
        fflush(stdout);
    }
    printf("with export / without: wall %.4f, cpu %.4f\n", sum[1].wall / sum[0].wall, sum[1].cpu / sum[0].cpu);
    engine_stop(w);
    event_base_dispatch(base);
    event_base_free(base);
    return 0;
}
