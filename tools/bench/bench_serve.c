// bench_serve: our server and llama-server under the same load, in turn, again and again.
//   bench_serve --nebulus PROGRAM --llama-server PROGRAM --model GGUF --home FOLDER [--threads N] [--vocabulary N]
//   [--quick]
// Both hold the model at the same time; while one is measured the other has nothing to do. Which one begins changes by
// round.
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "relay.h"
#include "report.h"
#include "server.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = MAX_ROUNDS, FEWEST_ROUNDS = 3, BUDGET_SECONDS = 330, MOST_SECONDS = 420 };
enum { RELAY_TOKENS = 2000, RELAY_QUICK_TOKENS = 100 };

struct bench {
    struct server_settings settings[SIDES]; // ours, theirs
    struct server servers[SIDES];
    struct report report;
    int requests[LEVELS];
    int rounds, relay_tokens;
};

static int measure(struct bench *b, int side, int level, int round, struct err *e) {
    static struct load_result result;
    struct load l = {.port = b->servers[side].port,
                     .clients = b->report.clients[level],
                     .requests = b->requests[level],
                     .seed = (uint64_t)(1 + round * LEVELS + level),
                     .mix = b->report.mix};
    uint64_t cpu = server_cpu_ns(&b->servers[side]);
    if (load_run(&l, &result, e)) return -1;
    if (side == 0) {
        b->report.daemon_ns[level] += server_cpu_ns(&b->servers[0]) - cpu;
        b->report.daemon_tokens[level] += (uint64_t)result.tokens_out;
    }
    report_add(&b->report, side, level, round, &result);
    printf("round %d, %d clients, %-12s %8.1f tokens/s in %.1f s\n", round + 1, l.clients, b->servers[side].name,
           b->report.cells[side][level][round].tokens_per_s, result.wall_s);
    fflush(stdout);
    return 0;
}

// The first request waits for the model to load and wakes up caches and threads.
static int warm_up(struct bench *b, struct err *e) {
    static struct load_result result;
    for (int side = 0; side < SIDES; side++) {
        struct load l = {
            .port = b->servers[side].port, .clients = 2, .requests = 2, .seed = 1u << 20, .mix = b->report.mix};
        if (load_run(&l, &result, e)) return -1;
    }
    return 0;
}

static void print_machine(const struct bench *b) {
    struct err e;
    char *text = NULL;
    const char *version = "unknown";
    load_get(b->servers[0].port, "/nebulus/v1/status", &text);
    json_t *status = text ? json_parse(text, strlen(text), &e) : NULL;
    json_t *model = json_array_get(json_object_get(status, "models"), 0), *info = json_object_get(model, "info");
    if (json_get_string(info, "llama_version", &version, &e)) version = "unknown";
    report_machine(version);
    const char *description = "unknown";
    if (json_get_string(info, "description", &description, &e)) description = "unknown";
    printf("model: %s; %d threads, up to %d sequences, ubatch %d, f16 KV cache; %d generated tokens per request, "
           "temperature %g\n",
           description, b->settings[0].threads, b->settings[0].parallel, b->settings[0].chunk, b->report.mix.max_tokens,
           b->report.mix.temperature);
    json_decref(status);
    free(text);
}

static int run_rounds(struct bench *b, struct err *e) {
    uint64_t begin = clock_mono_ns();
    for (int round = 0; round < b->rounds; round++) {
        uint64_t next_end =
            (clock_mono_ns() - begin) * (uint64_t)(round + 1) / (uint64_t)(round ? round : 1) / NS_PER_S;
        if (next_end > (round < FEWEST_ROUNDS ? MOST_SECONDS : BUDGET_SECONDS)) break;
        for (int level = 0; level < LEVELS; level++)
            if (measure(b, round % SIDES, level, round, e) || measure(b, (round + 1) % SIDES, level, round, e))
                return -1;
        b->report.rounds = round + 1;
    }
    return 0;
}

// What the least that a daemon can do for a token costs, at the pace and beside the load of one client of ours.
static int measure_relay(struct bench *b, struct err *e) {
    static struct load_result result;
    struct relay relay;
    uint64_t pace = (uint64_t)(b->report.cells[0][0][0].tpot_s[0] * NS_PER_S);
    if (relay_start(&relay, b->relay_tokens, pace, e)) return -1;
    for (uint64_t i = 1; !relay_done(&relay); i++) {
        struct load l = {.port = b->servers[0].port,
                         .clients = b->report.clients[0],
                         .requests = b->requests[0],
                         .seed = (2u << 20) + i,
                         .mix = b->report.mix};
        if (load_run(&l, &result, e)) return -1;
    }
    return relay_end(&relay, &b->report.relay_us, e);
}

// What everything else on this machine has used so far, up to a constant.
static uint64_t others_ns(const struct bench *b) {
    struct timespec self;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &self);
    return machine_cpu_ns() - server_tree_ns(&b->servers[0]) - server_tree_ns(&b->servers[1]) -
           (uint64_t)self.tv_sec * NS_PER_S - (uint64_t)self.tv_nsec;
}

static int run(struct bench *b, struct err *e) {
    if (server_start_ours(&b->servers[0], &b->settings[0], e) ||
        server_start_llama(&b->servers[1], &b->settings[1], e) || warm_up(b, e))
        return -1;
    print_machine(b);
    uint64_t begin = clock_mono_ns(), others = others_ns(b);
    if (run_rounds(b, e)) return -1;
    int64_t foreign =
        (int64_t)(others_ns(b) - others); // ticks are coarse: a quiet machine may show a little less than 0
    b->report.others_ns = foreign > 0 ? (uint64_t)foreign : 0;
    b->report.wall_ns = clock_mono_ns() - begin;
    if (measure_relay(b, e)) return -1;
    report_print(&b->report);
    return 0;
}

static const char usage[] = "usage: bench_serve --nebulus PROGRAM --llama-server PROGRAM --model GGUF --home FOLDER\n"
                            "                   [--threads N] [--vocabulary N] [--quick]\n";

static int parse(struct bench *b, int argc, char **argv) {
    static const struct option options[] = {
        {"nebulus", 1, NULL, 'n'}, {"llama-server", 1, NULL, 'l'}, {"model", 1, NULL, 'm'}, {"home", 1, NULL, 'h'},
        {"threads", 1, NULL, 't'}, {"vocabulary", 1, NULL, 'v'},   {"quick", 0, NULL, 'q'}, {NULL, 0, NULL, 0}};
    struct server_settings *s = &b->settings[0];
    long threads = 2, vocabulary = 32000;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'n')
            s->program = optarg;
        else if (c == 'l')
            b->settings[1].program = optarg;
        else if (c == 'm')
            s->model = optarg;
        else if (c == 'h')
            s->home = optarg;
        else if (c == 't' && !text_parse_long(optarg, 1, 1024, &threads))
            continue;
        else if (c == 'v' && !text_parse_long(optarg, 2000, 1000000, &vocabulary))
            continue;
        else if (c == 'q') {
            b->rounds = 1;
            b->relay_tokens = RELAY_QUICK_TOKENS;
            for (int i = 0; i < LEVELS; i++) b->requests[i] = 2 * b->report.clients[i];
            b->report.mix.max_tokens = 8;
        } else
            return -1;
    }
    const char *theirs = b->settings[1].program;
    if (optind != argc || !s->program || !theirs || !s->model || !s->home) return -1;
    s->threads = (int)threads;
    b->report.mix.vocabulary = (int)vocabulary;
    b->settings[1] = *s;
    b->settings[1].program = theirs;
    return 0;
}

int main(int argc, char **argv) {
    static struct bench b = {
        .settings = {{.parallel = 8, .context = 2048, .chunk = 512}},
        .report = {.clients = {1, 4, 8}, .mix = {.prompt_tokens = {64, 1024}, .max_tokens = 64, .temperature = 0.8}},
        .requests = {4, 8, 16},
        .rounds = ROUNDS,
        .relay_tokens = RELAY_TOKENS,
    };
    struct err e;
    if (parse(&b, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    int rc = run(&b, &e);
    if (rc) fprintf(stderr, "bench_serve: %s\n", e.msg);
    server_stop(&b.servers[0]);
    server_stop(&b.servers[1]);
    return rc ? 1 : 0;
}
