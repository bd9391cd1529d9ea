#include "serve/metrics.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const double bounds[METRIC_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                              0.5,   1,      2.5,   5,    10,    30,   60,  300};

void metrics_init(struct metrics *m) { *m = (struct metrics){.started_ns = clock_mono_ns()}; }

void metrics_answer(struct metrics *m, const char *route, int status) {
    m->total++;
    if (status >= 400) m->failed++;
    size_t i = 0;
    while (i < m->n_answers && (m->answers[i].status != status || strcmp(m->answers[i].route, route) != 0)) i++;
    if (i == METRIC_ANSWERS) return; // more than routes and statuses there are
    if (i == m->n_answers) m->answers[m->n_answers++] = (struct answer_count){.route = route, .status = status};
    m->answers[i].n++;
}

void metrics_time(struct histogram *h, uint64_t ns) {
    double seconds = (double)ns / 1e9;
    h->count++;
    h->sum += seconds;
    for (size_t i = 0; i < METRIC_BUCKETS; i++) {
        if (seconds > bounds[i]) continue;
        h->bucket[i]++;
        return;
    }
}

uint64_t metrics_uptime_s(const struct metrics *m) { return (clock_mono_ns() - m->started_ns) / NS_PER_S; }

int64_t metrics_rss_bytes(void) {
#ifdef __linux__
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%ld %ld", &pages, &resident) != 2) resident = 0;
        fclose(f);
    }
    if (resident) return (int64_t)resident * sysconf(_SC_PAGESIZE);
#endif
    struct rusage use;
    if (getrusage(RUSAGE_SELF, &use)) return 0;
#ifdef __APPLE__
    return (int64_t)use.ru_maxrss;
#else
    return (int64_t)use.ru_maxrss * 1024;
#endif
}

static double cpu_seconds(void) {
    struct rusage use;
    if (getrusage(RUSAGE_SELF, &use)) return 0;
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void put_head(struct buf *out, const char *name, const char *type, const char *help) {
    buf_printf(out, "# HELP nebulus_%s %s\n# TYPE nebulus_%s %s\n", name, help, name, type);
}

static void put_number(struct buf *out, const char *name, const char *type, const char *help, double v) {
    put_head(out, name, type, help);
    buf_printf(out, "nebulus_%s %.15g\n", name, v);
}

static void put_histogram(struct buf *out, const char *name, const char *help, const struct histogram *h) {
    uint64_t sum = 0;
    put_head(out, name, "histogram", help);
    for (size_t i = 0; i < METRIC_BUCKETS; i++) {
        sum += h->bucket[i];
        buf_printf(out, "nebulus_%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)sum);
    }
    buf_printf(out, "nebulus_%s_bucket{le=\"+Inf\"} %llu\nnebulus_%s_sum %.9g\nnebulus_%s_count %llu\n", name,
               (unsigned long long)h->count, name, h->sum, name, (unsigned long long)h->count);
}

// ---------------------------------------------------------------- per model
static double is_up(const struct engine_status *s) { return s->state == ENGINE_READY; }
static double restarts(const struct engine_status *s) { return s->restarts; }
static double cells_used(const struct engine_status *s) { return (double)s->stats.cells_used; }
static double cells_total(const struct engine_status *s) { return (double)s->stats.cells_total; }
static double running(const struct engine_status *s) { return (double)s->stats.running; }
static double waiting(const struct engine_status *s) { return (double)s->stats.waiting; }
static double preemptions(const struct engine_status *s) { return (double)s->stats.preemptions; }
static double steps(const struct engine_status *s) { return (double)s->stats.steps; }
static double busy(const struct engine_status *s) { return (double)s->stats.busy_ns / 1e9; }
static double prefilled(const struct engine_status *s) { return (double)s->stats.prefill_tokens; }
static double decoded(const struct engine_status *s) { return (double)s->stats.decode_tokens; }

static const struct {
    const char *name, *type, *help;
    double (*value)(const struct engine_status *s);
} of_model[] = {
    {"model_ready", "gauge", "1 where the model can compute", is_up},
    {"worker_restarts_total", "counter", "Workers started after the first", restarts},
    {"kv_cells_used", "gauge", "KV cache cells in use", cells_used},
    {"kv_cells", "gauge", "KV cache cells", cells_total},
    {"sequences_running", "gauge", "Sequences being computed", running},
    {"sequences_waiting", "gauge", "Requests queued in the worker", waiting},
    {"preemptions_total", "counter", "Sequences put back for want of KV cells, since the worker started", preemptions},
    {"steps_total", "counter", "Batches computed since the worker started", steps},
    {"busy_seconds_total", "counter", "Time spent computing since the worker started", busy},
    {"worker_prefill_tokens_total", "counter", "Prompt tokens computed since the worker started", prefilled},
    {"worker_decode_tokens_total", "counter", "Tokens generated since the worker started", decoded},
};

static void put_models(struct buf *out, const struct models *models) {
    struct engine_status status;
    for (size_t i = 0; i < sizeof of_model / sizeof *of_model; i++) {
        put_head(out, of_model[i].name, of_model[i].type, of_model[i].help);
        for (const struct model *m = models_next(models, NULL); m; m = models_next(models, m)) {
            engine_get_status(m->engine, &status);
            buf_printf(out, "nebulus_%s{model=\"%s\"} %.15g\n", of_model[i].name, m->name, of_model[i].value(&status));
        }
    }
    put_head(out, "model_state", "gauge", "1 for the state that the model is in");
    for (const struct model *m = models_next(models, NULL); m; m = models_next(models, m)) {
        engine_get_status(m->engine, &status);
        for (enum engine_state s = ENGINE_LOADING; s <= ENGINE_FAILED; s++)
            buf_printf(out, "nebulus_model_state{model=\"%s\",state=\"%s\"} %d\n", m->name, engine_state_name(s),
                       s == status.state);
    }
}

static void put_budgets(struct buf *out, const struct metrics *m) {
    static const char *const kinds[BUDGET_KINDS] = {"tokens_day", "rpm", "concurrent"};
    put_head(out, "budget_refused_total", "counter", "Requests that a limit of the policy stood against");
    for (int kind = 0; kind < BUDGET_KINDS; kind++)
        buf_printf(out, "nebulus_budget_refused_total{limit=\"%s\"} %llu\n", kinds[kind],
                   (unsigned long long)m->budget_refused[kind]);
    put_number(out, "budget_tokens_total", "counter", "Tokens charged to budgets", (double)m->tokens_charged);
    put_number(out, "budget_tokens_reserved", "gauge", "Tokens reserved by running requests",
               (double)m->tokens_reserved);
}

int metrics_write(const struct metrics *m, const struct models *models, size_t connections, struct buf *out) {
    put_head(out, "requests_total", "counter", "Answered HTTP requests");
    for (size_t i = 0; i < m->n_answers; i++)
        buf_printf(out, "nebulus_requests_total{route=\"%s\",status=\"%d\"} %llu\n", m->answers[i].route,
                   m->answers[i].status, (unsigned long long)m->answers[i].n);
    put_number(out, "requests_cancelled_total", "counter", "Requests whose client left", (double)m->cancelled);
    put_number(out, "requests_active", "gauge", "Inference requests being worked on", (double)m->active);
    put_number(out, "prompt_tokens_total", "counter", "Tokens of answered prompts", (double)m->tokens_in);
    put_number(out, "completion_tokens_total", "counter", "Tokens of answers", (double)m->tokens_out);
    put_budgets(out, m);
    put_histogram(out, "time_to_first_token_seconds", "From the request to its first token", &m->ttft);
    put_histogram(out, "time_per_output_token_seconds", "Mean time between the tokens of one answer", &m->tpot);
    put_models(out, models);
    put_number(out, "connections", "gauge", "Open client connections", (double)connections);
    put_number(out, "uptime_seconds", "gauge", "Time since the daemon started", (double)metrics_uptime_s(m));
    put_number(out, "process_resident_memory_bytes", "gauge", "Memory of the daemon, without its workers",
               (double)metrics_rss_bytes());
    put_number(out, "process_cpu_seconds_total", "counter", "CPU time of the daemon, without its workers",
               cpu_seconds());
    return out->failed ? -1 : 0;
}
