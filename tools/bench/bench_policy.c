// How long a policy takes over a plan: 1,000 rules of every kind, 20 nodes, one subject; both phases of every node and
// every KV edge, 420 decisions, with the subject's and the nodes' preparation.
//   bench_policy [PLANS]
// The last line: {"bench":"policy","rules":1000,"nodes":20,"decisions":420,"median_us":..,"p99_us":..,"cpu_us":..};
// cpu_us is the mean of the processor's time per plan.
#include "base/buf.h"
#include "base/clock.h"
#include "sorted.h"
#include "trust/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RULES = 1000, NODES = 20, MODELS = 40, AGENTS = 200, GROUPS = 30, SITES = 8 };

static unsigned seed = 1;
static unsigned below(unsigned n) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static void write_rule(struct buf *b, int i) {
    bool forbid = below(10) == 0, kv = below(4) == 0;
    buf_printf(b, "%s{\"id\":\"rule-%d\",\"effect\":\"%s\",\"agents\":[\"@group-%u\",\"agent-%u\",\"!agent-%u\"]",
               i ? "," : "", i, forbid ? "forbid" : "permit", below(GROUPS), below(AGENTS), below(AGENTS));
    buf_printf(b, below(3) ? ",\"models\":[\"family-%u*\",\"model-%u\"]" : "", below(9), below(MODELS));
    if (kv)
        buf_printf(b, ",\"phases\":[\"kv\"],\"src\":[\"@site-%u\"],\"dst\":[\"!@site-%u\"]", below(SITES),
                   below(SITES));
    else
        buf_printf(b, ",\"nodes\":[\"@site-%u\",\"node-%u\",\"!node-%u\"]", below(SITES), below(NODES), below(NODES));
    if (!below(3)) buf_puts(b, ",\"labels\":[\"internal\",\"!private\"]");
    if (!below(4)) buf_puts(b, ",\"hours\":\"Mon-Fri 08:00-20:00; Sat 22:00-06:00\"");
    if (!forbid && !below(3))
        buf_printf(b, ",\"limits\":{\"tokens_day\":%u,\"rpm\":%u}", 1 + below(100000), 1 + below(60));
    buf_puts(b, "}");
}

static struct policy *make(void) {
    struct buf b;
    struct err e;
    buf_init(&b, POLICY_BYTES);
    buf_puts(&b, "{\"v\":1,\"rules\":[");
    for (int i = 0; i < RULES; i++) write_rule(&b, i);
    buf_puts(&b, "]}");
    uint64_t began = clock_mono_ns();
    struct policy *p = b.failed ? NULL : policy_read(buf_str(&b), b.len, &e);
    if (!p) {
        fprintf(stderr, "bench_policy: %s\n", b.failed ? "out of memory" : e.msg);
        exit(1);
    }
    fprintf(stderr, "%d rules of %zu bytes, read in %.2f ms\n", RULES, b.len, (double)(clock_mono_ns() - began) / 1e6);
    buf_free(&b);
    return p;
}

static size_t plan(const struct policy *p, const struct policy_subject *who, const struct policy_node *nodes) {
    struct policy_view v;
    static struct policy_spot spots[NODES];
    struct policy_decision d;
    size_t allowed = 0;
    policy_view(p, who, &v);
    for (int i = 0; i < NODES; i++) policy_view_node(&v, &nodes[i], &spots[i]);
    for (int i = 0; i < NODES; i++) {
        policy_view_decide(&v, POLICY_PREFILL, &spots[i], &d);
        allowed += d.allow;
        policy_view_decide(&v, POLICY_DECODE, &spots[i], &d);
        allowed += d.allow;
        for (int k = 0; k < NODES; k++) {
            if (i == k) continue;
            policy_view_decide_kv(&v, &spots[i], &spots[k], &d);
            allowed += d.allow;
        }
    }
    return allowed;
}

static void measure(const struct policy *p, size_t plans, double *us) {
    static char names[NODES][20], ids[NODES][40], sites[SITES][20], agent[16], groups[2][16], model[24];
    static const char *site_of[NODES][2], *group_of[2], *label = "internal";
    struct policy_node nodes[NODES];
    size_t allowed = 0;
    for (int i = 0; i < SITES; i++) snprintf(sites[i], sizeof sites[i], "site-%d", i);
    for (int i = 0; i < NODES; i++) {
        snprintf(names[i], sizeof names[i], "node-%d", i);
        snprintf(ids[i], sizeof ids[i], "%032d", i);
        site_of[i][0] = sites[i % SITES];
        site_of[i][1] = sites[(i + 3) % SITES];
        nodes[i] = (struct policy_node){ids[i], names[i], {site_of[i], 2}};
    }
    struct policy_agent who = {agent, {group_of, 2}, {NULL, 0}};
    uint64_t cpu = clock_cpu_ns();
    for (size_t i = 0; i < plans; i++) {
        snprintf(agent, sizeof agent, "agent-%u", below(AGENTS));
        for (int k = 0; k < 2; k++) {
            snprintf(groups[k], sizeof groups[k], "group-%u", below(GROUPS));
            group_of[k] = groups[k];
        }
        snprintf(model, sizeof model, below(2) ? "family-%u-8b" : "model-%u", below(9));
        struct policy_subject subject = {.lineage = &who,
                                         .n = 1,
                                         .labels = {&label, 1},
                                         .model = model,
                                         .gateway = ids[0],
                                         .when = {true, (int)below(7), (int)below(1440)}};
        uint64_t began = clock_mono_ns();
        allowed += plan(p, &subject, nodes);
        us[i] = (double)(clock_mono_ns() - began) / 1e3;
    }
    cpu = clock_cpu_ns() - cpu;
    sort_values(us, plans);
    fprintf(stderr, "%.1f %% of the decisions permit\n",
            100.0 * (double)allowed / (double)plans / (NODES * (NODES + 1)));
    printf("{\"bench\":\"policy\",\"rules\":%d,\"nodes\":%d,\"decisions\":%d,\"median_us\":%.1f,\"p99_us\":%.1f,"
           "\"cpu_us\":%.1f}\n",
           RULES, NODES, NODES * (NODES + 1), us[plans / 2], us[plans * 99 / 100], (double)cpu / 1e3 / (double)plans);
}

int main(int argc, char **argv) {
    long plans = argc > 1 ? strtol(argv[1], NULL, 10) : 20000;
    if (plans < 1 || plans > 10000000) {
        fprintf(stderr, "usage: bench_policy [PLANS]\n");
        return 2;
    }
    double *us = calloc((size_t)plans, sizeof *us);
    if (!us) return 1;
    struct policy *p = make();
    measure(p, (size_t)plans, us);
    policy_free(p);
    free(us);
    return 0;
}
