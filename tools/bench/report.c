#include "report.h"
#include "base/json.h"
#include "base/paths.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

void report_cell(struct cell *out, const struct load_result *r) {
    out->tokens_per_s = (double)(r->tokens_in + r->tokens_out) / r->wall_s;
    for (int kind = 0; kind < MIX_KINDS; kind++) {
        double ttft[LOAD_MAX_REQUESTS], tpot[LOAD_MAX_REQUESTS];
        int n = 0;
        for (int i = 0; i < r->count; i++) {
            if (r->seen[i].kind != kind) continue;
            ttft[n] = r->seen[i].ttft_s;
            tpot[n++] = r->seen[i].tpot_s;
        }
        out->ttft_median[kind] = quantile(ttft, n, 0.5);
        out->ttft_p95[kind] = quantile(ttft, n, 0.95);
        out->tpot_median[kind] = quantile(tpot, n, 0.5);
        out->tpot_p95[kind] = quantile(tpot, n, 0.95);
    }
}

// ---------------------------------------------------------------- over the rounds
enum measure { THROUGHPUT, TTFT, TPOT };

// Latencies of the two prompt lengths count alike: their geometric mean.
static double value_of(const struct cell *c, enum measure m) {
    if (m == THROUGHPUT) return c->tokens_per_s;
    const double *v = m == TTFT ? c->ttft_median : c->tpot_median;
    return sqrt(v[0] * v[1]);
}

static double ratio(const struct report *r, int level, enum measure m) {
    double ratios[MAX_ROUNDS];
    for (int i = 0; i < r->rounds; i++)
        ratios[i] = value_of(&r->cells[0][level][i], m) / value_of(&r->cells[1][level][i], m);
    return quantile(ratios, r->rounds, 0.5);
}

// The median over the rounds of one member of struct cell.
static double median_of(const struct report *r, int side, int level, size_t offset) {
    double values[MAX_ROUNDS];
    for (int i = 0; i < r->rounds; i++)
        memcpy(&values[i], (const char *)&r->cells[side][level][i] + offset, sizeof *values);
    return quantile(values, r->rounds, 0.5);
}
#define MEDIAN(member) median_of(r, side, level, offsetof(struct cell, member))

static void print_row(const struct report *r, int side, int level) {
    printf("%7d  %-12s %8.1f", r->clients[level], sides[side], MEDIAN(tokens_per_s));
    for (int kind = 0; kind < MIX_KINDS; kind++) {
        size_t at = (size_t)kind * sizeof(double);
        printf("  %8.1f %8.1f %7.2f %7.2f", 1e3 * median_of(r, side, level, offsetof(struct cell, ttft_median) + at),
               1e3 * median_of(r, side, level, offsetof(struct cell, ttft_p95) + at),
               1e3 * median_of(r, side, level, offsetof(struct cell, tpot_median) + at),
               1e3 * median_of(r, side, level, offsetof(struct cell, tpot_p95) + at));
    }
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

void report_print(const struct report *r) {
    double daemon_us = r->daemon_tokens ? (double)r->daemon_ns / 1e3 / (double)r->daemon_tokens : NAN;
    printf("\n                                  %4d-token prompts (ms)              %4d-token prompts (ms)\n",
           r->mix.prompt_tokens[0], r->mix.prompt_tokens[1]);
    printf("clients  server       tokens/s  TTFT p50      p95    TPOT     p95  TTFT p50      p95    TPOT     p95\n");
    for (int level = 0; level < LEVELS; level++) {
        for (int side = 0; side < SIDES; side++) print_row(r, side, level);
        printf("         ours/theirs  throughput %.3f, TTFT %.3f, TPOT %.3f (medians of %d rounds' ratios)\n",
               ratio(r, level, THROUGHPUT), ratio(r, level, TTFT), ratio(r, level, TPOT), r->rounds);
    }
    printf("daemon: %.1f microseconds of CPU per generated token, outside the worker\n", daemon_us);
    json_t *line =
        json_pack("{s:s, s:o, s:o, s:o, s:f, s:i}", "bench", "serve", "ratio_throughput", ratios_json(r, THROUGHPUT),
                  "ratio_ttft", ratios_json(r, TTFT), "ratio_tpot", ratios_json(r, TPOT), "daemon_us_per_token",
                  round(daemon_us * 10) / 10, "rounds", r->rounds);
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
