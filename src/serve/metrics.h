// What the daemon counts, and how Prometheus reads it. Threads: the event-loop thread only.
#pragma once

#include "base/buf.h"
#include "serve/models.h"
#include "trust/budget.h"

enum { METRIC_ANSWERS = 128, METRIC_BUCKETS = 16 };

struct histogram {
    uint64_t bucket[METRIC_BUCKETS]; // not cumulative
    uint64_t count;
    double sum; // seconds
};

struct metrics {
    struct answer_count {
        const char *route; // a route's name, static
        int status;
        uint64_t n;
    } answers[METRIC_ANSWERS];
    size_t n_answers;
    uint64_t total, failed; // answered requests; those with a status of 400 or more, or an error in their stream
    uint64_t tokens_in, tokens_out;
    uint64_t cancelled; // clients that left before their answer's end
    size_t active;      // inference requests being worked on
    uint64_t budget_refused[BUDGET_KINDS];
    uint64_t tokens_charged; // to budgets, of each request once
    int64_t tokens_reserved;
    struct histogram ttft, tpot;
    uint64_t started_ns; // clock_mono_ns
};

void metrics_init(struct metrics *m);
void metrics_answer(struct metrics *m, const char *route, int status);
void metrics_time(struct histogram *h, uint64_t ns);

uint64_t metrics_uptime_s(const struct metrics *m);
int64_t metrics_rss_bytes(void); // resident memory of this process

// The Prometheus text format, version 0.0.4. Fails where out is full.
int metrics_write(const struct metrics *m, const struct models *models, size_t connections, struct buf *out) MUST_USE;
