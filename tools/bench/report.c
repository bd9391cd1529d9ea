#include "report.h"
#include "base/json.h"
#include "base/paths.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUIET_CORES 0.1 // more than this, and the machine was not quiet

static const char *const sides[SIDES] = {"nebulus", "llama-server"};

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The q-quantile by linear interpolation; sorts the values.
static double quantile(double *values, int n, double q) {
    if (!n) return NAN;
    qsort(values, (size_t)n, sizeof *values, by_value);
    double at = q * (n - 1);
    int below = (int)at, above = below + 1 < n ? below + 1 : below;
    return values[below] + (at - below) * (values[above] - values[below]);
}

// A quantile of ttft_s or tpot_s (by its offset) over the requests of one kind.
static double seen_quantile(const struct seen *seen, int count, int kind, size_t offset, double q) {
    static double values[MAX_ROUNDS * LOAD_MAX_REQUESTS];
    int n = 0;
    for (int i = 0; i < count; i++)
        if (seen[i].kind == kind) memcpy(&values[n++], (const char *)&seen[i] + offset, sizeof *values);
    return quantile(values, n, q);
}

void report_add(struct report *r, int side, int level, int round, const struct load_result *result) {
    struct cell *c = &r->cells[side][level][round];
    struct pool *p = &r->pools[side][level];
    c->tokens_per_s = (double)(result->tokens_in + result->tokens_out) / result->wall_s;
    for (int kind = 0; kind < MIX_KINDS; kind++) {
        c->ttft_s[kind] = seen_quantile(result->seen, result->count, kind, offsetof(struct seen, ttft_s), 0.5);
        c->tpot_s[kind] = seen_quantile(result->seen, result->count, kind, offsetof(struct seen, tpot_s), 0.5);
    }
    memcpy(p->seen + p->count, result->seen, (size_t)result->count * sizeof *result->seen);
    p->count += result->count;
}

// ---------------------------------------------------------------- over the rounds
enum measure { THROUGHPUT, TTFT, TPOT };

// Latencies of the two prompt lengths count alike: their geometric mean.
static double value_of(const struct cell *c, enum measure m) {
    if (m == THROUGHPUT) return c->tokens_per_s;
    const double *v = m == TTFT ? c->ttft_s : c->tpot_s;
    return sqrt(v[0] * v[1]);
}

static double ratio(const struct report *r, int level, enum measure m) {
    double ratios[MAX_ROUNDS];
    for (int i = 0; i < r->rounds; i++)
        ratios[i] = value_of(&r->cells[0][level][i], m) / value_of(&r->cells[1][level][i], m);
    return quantile(ratios, r->rounds, 0.5);
}

static double median_throughput(const struct report *r, int side, int level) {
    double values[MAX_ROUNDS];
    for (int i = 0; i < r->rounds; i++) values[i] = r->cells[side][level][i].tokens_per_s;
    return quantile(values, r->rounds, 0.5);
}

static void print_row(const struct report *r, int side, int level) {
    const struct pool *p = &r->pools[side][level];
    static const size_t columns[] = {offsetof(struct seen, ttft_s), offsetof(struct seen, tpot_s)};
    printf("%7d  %-12s %8.1f", r->clients[level], sides[side], median_throughput(r, side, level));
    for (int kind = 0; kind < MIX_KINDS; kind++)
        for (int c = 0; c < 2; c++)
            printf("  %8.2f %8.2f", 1e3 * seen_quantile(p->seen, p->count, kind, columns[c], 0.5),
                   1e3 * seen_quantile(p->seen, p->count, kind, columns[c], 0.95));
    printf("\n");
}

static json_t *ratios_json(const struct report *r, enum measure m) {
    json_t *o = json_object();
    for (int level = 0; level < LEVELS; level++) {
        char key[16];
        snprintf(key, sizeof key, "%d", r->clients[level]);
        json_object_set_new(o, key, json_real(round(ratio(r, level, m) * 1000) / 1000));
    }
    return o;
}

// What the daemon itself cost; returns its CPU microseconds per generated token.
static double print_daemon(const struct report *r) {
    uint64_t ns = 0, tokens = 0;
    for (int level = 0; level < LEVELS; level++) {
        ns += r->daemon_ns[level];
        tokens += r->daemon_tokens[level];
    }
    printf("daemon: %.1f microseconds of CPU per generated token, outside the worker (",
           (double)ns / 1e3 / (double)tokens);
    for (int level = 0; level < LEVELS; level++)
        printf("%s%.1f at %d", level ? ", " : "", (double)r->daemon_ns[level] / 1e3 / (double)r->daemon_tokens[level],
               r->clients[level]);
    printf(" clients)\na bare relay of the same three system calls costs %.1f microseconds per token here\n",
           r->relay_us);
    return (double)ns / 1e3 / (double)tokens;
}

static double tenths(double v) { return round(v * 10) / 10; }

void report_print(const struct report *r) {
    printf("\n%31s%d-token prompts (ms)                   %d-token prompts (ms)\n", "", r->mix.prompt_tokens[0],
           r->mix.prompt_tokens[1]);
    printf("clients  server       tokens/s  TTFT p50       p95  TPOT p50       p95  TTFT p50       p95  TPOT p50       "
           "p95\n");
    for (int level = 0; level < LEVELS; level++) {
        for (int side = 0; side < SIDES; side++) print_row(r, side, level);
        printf("         ours/theirs  throughput %.3f, TTFT %.3f, TPOT %.3f (medians of %d rounds' ratios)\n",
               ratio(r, level, THROUGHPUT), ratio(r, level, TTFT), ratio(r, level, TPOT), r->rounds);
    }
    double daemon_us = print_daemon(r);
    double others = r->wall_ns ? (double)r->others_ns / (double)r->wall_ns : NAN;
    printf("other programs kept %.2f cores busy meanwhile%s\n", others,
           others > QUIET_CORES ? ": THE MACHINE WAS NOT QUIET, do not trust these ratios" : "");
    json_t *line = json_pack("{s:s, s:o, s:o, s:o, s:f, s:f, s:f, s:i}", "bench", "serve", "ratio_throughput",
                             ratios_json(r, THROUGHPUT), "ratio_ttft", ratios_json(r, TTFT), "ratio_tpot",
                             ratios_json(r, TPOT), "daemon_us_per_token", tenths(daemon_us), "relay_us_per_token",
                             tenths(r->relay_us), "others_cores", round(others * 100) / 100, "rounds", r->rounds);
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    if (text) printf("%s\n", text);
    free(text);
    json_decref(line);
}

// ---------------------------------------------------------------- the machine
static void cpu_name(char *out, size_t size) {
    char *text, *line;
    size_t len;
    snprintf(out, size, "unknown CPU");
    if (file_read("/proc/cpuinfo", 1 << 20, &text, &len, NULL)) return;
    if ((line = strstr(text, "model name")) && (line = strchr(line, ':'))) {
        line += strspn(line, ": ");
        snprintf(out, size, "%.*s", (int)strcspn(line, "\n"), line);
    }
    free(text);
}

void report_machine(const char *llama_version) {
    char name[128];
    double load[1] = {NAN};
    cpu_name(name, sizeof name);
    if (getloadavg(load, 1) != 1) load[0] = NAN;
    printf("machine: %s, %ld cores, %.1f GB memory, load average %.2f at start; libllama %s\n", name,
           sysconf(_SC_NPROCESSORS_ONLN), (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 1e9,
           load[0], llama_version);
}
