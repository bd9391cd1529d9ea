// How long a decision of the planner takes: clusters of 2 to 64 random nodes, all permitted, all linked.
//   bench_plan [DECISIONS]
// The last line is that of 20 nodes: {"bench":"plan","nodes":20,"median_us":..,"p99_us":..,"cpu_us":..,"plans":..}
// cpu_us is the mean of the processor's time, which says the most on a machine that does other things, too.
#include "base/clock.h"
#include "plan/plan.h"
#include "sorted.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct plan_node nodes[PLAN_NODES];
static struct link_cost links[PLAN_NODES * PLAN_NODES];
static unsigned seed = 1;

static double spread(double min, double max) {
    seed = seed * 1664525u + 1013904223u;
    return min * pow(max / min, (seed >> 8) / 16777216.0);
}

static void fill(size_t n) {
    for (size_t i = 0; i < n; i++)
        nodes[i] = (struct plan_node){.name = "node",
                                      .profile = {.prefill_base = spread(1e-3, 0.1),
                                                  .prefill_token = spread(1e-5, 1e-3),
                                                  .prefill_pair = spread(1e-10, 1e-8),
                                                  .decode_base = spread(5e-3, 0.1),
                                                  .decode_token = spread(1e-8, 1e-6)},
                                      .queued_tokens = spread(1, 1e4),
                                      .context_tokens = spread(1, 1e5),
                                      .cached_tokens = spread(1, 1e4),
                                      .free_cells = 1e6};
    for (size_t i = 0; i < n * n; i++)
        links[i] = (struct link_cost){.bytes_s = spread(1e7, 1e10), .rtt_s = spread(1e-5, 1e-2)};
}

static void measure(size_t n, size_t decisions, double *us) {
    struct plan_input in = {.nodes = nodes,
                            .n = n,
                            .links = links,
                            .rows = {.token_bytes = 131072, .hidden_bytes = 8192, .layers = 32},
                            .generate = 256,
                            .chunk = 512};
    struct timespec from, to;
    double cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    for (size_t i = 0; i < decisions; i++) {
        struct plan p;
        struct err e;
        if (i % 64 == 0) fill(n);
        in.prompt = 1 + floor(spread(1, 32768));
        uint64_t began = clock_mono_ns();
        if (plan_choose(&in, &p, &e)) {
            fprintf(stderr, "bench_plan: %s\n", e.msg);
            exit(1);
        }
        us[i] = (double)(clock_mono_ns() - began) / 1e3;
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    cpu = (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3;
    sort_values(us, decisions);
    printf("{\"bench\":\"plan\",\"nodes\":%zu,\"median_us\":%.1f,\"p99_us\":%.1f,\"cpu_us\":%.1f,\"plans\":%zu}\n", n,
           us[decisions / 2], us[decisions * 99 / 100], cpu / (double)decisions, n * n);
}

int main(int argc, char **argv) {
    long decisions = argc > 1 ? strtol(argv[1], NULL, 10) : 20000;
    if (decisions < 1 || decisions > 10000000) {
        fprintf(stderr, "usage: bench_plan [DECISIONS]\n");
        return 2;
    }
    double *us = calloc((size_t)decisions, sizeof *us);
    if (!us) return 1;
    static const size_t sizes[] = {2, 5, 10, 40, PLAN_NODES, 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) measure(sizes[i], (size_t)decisions, us);
    free(us);
    return 0;
}
