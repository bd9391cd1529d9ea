// Measuring: requests of random tokens, one at a time, while this node has nothing else to do. Each is longer than the
// one before as long as what is known by then says that there is time for it.
#include "base/clock.h"
#include "base/log.h"
#include "serve/profiles_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PAUSE_MS = 500, FAILURES = 3, STEPS_MOST = 8, SAMPLES_LEAST = 2 };
static const double PATIENCE_S = 20; // of computing
static const struct timeval at_once = {0}, later = {.tv_usec = PAUSE_MS * 1000};
static const int32_t lengths[] = {16, 64, 256, 64, 1024, 256, 2048}; // prompt tokens; the first only warms up
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static void wake(const struct profiles *p, const struct timeval *when) {
    if (p->turn && event_add(p->turn, when)) log_warn("measuring of models stops: out of memory");
}

void profiles_want(struct profiles *p, struct entry *one) {
    one->wanted = true;
    one->step = one->failures = 0;
    one->spent_s = 0;
    one->fresh = one->fit;
    wake(p, &at_once);
}

static struct entry *find(struct profiles *p, const char *model) {
    for (size_t i = 0; i < LIMIT_LOADED_MODELS; i++)
        if (*model && !strcmp(p->entries[i].model, model)) return &p->entries[i];
    return NULL;
}

// ---------------------------------------------------------------- results
static void finish(struct profiles *p, struct entry *one) {
    struct profile now;
    one->wanted = false;
    one->fit = one->fresh;
    one->known_s = clock_wall_ns() / NS_PER_S;
    one->jobs = 0;
    fit_profile(&one->fit, &now);
    log_info("'%s' was measured in %.1f s: reads 512 tokens in %.3g s, writes one in %.3g s", one->model, one->spent_s,
             prefill_seconds(&now, 512, 0), decode_seconds(&now, 512, 1));
    profiles_save(p, one);
}

static void give_up(struct entry *one, const char *why) {
    log_warn("'%s' cannot be measured: %s", one->model, why);
    one->wanted = false;
}

static void on_end(void *arg, const struct gen_result *r) {
    struct profiles *p = arg;
    struct entry *one = find(p, p->model);
    struct err why;
    p->id = 0;
    wake(p, &at_once);
    if (!one || !one->wanted) return;
    struct fit_sample s = {.tokens = r->prompt_tokens - r->cached_tokens,
                           .cached = r->cached_tokens,
                           .prefill_s = (double)r->prefill_ns / 1e9,
                           .context = r->prompt_tokens + 1,
                           .steps = fmax(0, r->completion_tokens - 1),
                           .decode_s = (double)r->decode_ns / 1e9};
    if (one->step <= 1) { // what an earlier fit or the warming up says goes
        struct profile guess = {one->fit.prefill.guess[0], one->fit.prefill.guess[1], one->fit.prefill.guess[2],
                                one->fit.decode.guess[0], one->fit.decode.guess[1]};
        fit_init(&one->fresh, &guess);
    }
    one->spent_s += s.prefill_s + s.decode_s;
    one->step++;
    if (fit_add(&one->fresh, &s, &why)) give_up(one, why.msg);
}

static void on_fail(void *arg, const struct err *why) {
    struct profiles *p = arg;
    struct entry *one = find(p, p->model);
    p->id = 0;
    wake(p, &later);
    if (one && one->wanted && ++one->failures >= FAILURES) give_up(one, why->msg);
}

static void on_begin(void *arg, const struct gen_begin *b) { (void)arg, (void)b; }
static void on_text(void *arg, const char *text, size_t n, int32_t tokens, int32_t id) {
    (void)arg, (void)text, (void)n, (void)tokens, (void)id;
}

// ---------------------------------------------------------------- requests
// Generated tokens of the next request: so many that writing takes no more than a quarter of what is left. 0: there is
// no time for that prompt.
static int32_t answer_tokens(const struct entry *one, int32_t prompt) {
    struct profile now;
    double left = PROFILES_SECONDS - one->spent_s;
    if (!one->step) return 2;
    fit_profile(&one->fresh, &now);
    double read = prefill_seconds(&now, prompt, 0), write = decode_seconds(&now, prompt, 1);
    if (read + write > left) return 0;
    return 1 + (int32_t)fmax(1, fmin(STEPS_MOST, left / 4 / write));
}

// Too few samples to count as measured (fit_error); on a machine that is too slow for more, the shortest requests make
// up for it.
static bool is_hardly_known(const struct entry *one) {
    return one->step <= LENGTHS && one->fresh.prefill.counted < SAMPLES_LEAST && one->spent_s < PATIENCE_S;
}

static json_t *random_tokens(int32_t n, int32_t vocab) {
    static uint64_t state;
    json_t *list = json_array();
    if (!state) state = clock_mono_ns() | 1;
    for (int32_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        json_array_append_new(list, json_integer((json_int_t)((state >> 33) % (uint64_t)vocab)));
    }
    return list;
}

static void submit(struct profiles *p, struct entry *one, const struct model *m, const struct worker_info *info,
                   int32_t n, int32_t answer) {
    static const struct gen_events events = {.begin = on_begin, .text = on_text, .end = on_end, .fail = on_fail};
    struct gen_request gen;
    struct err why;
    gen_request_init(&gen);
    gen.kind = PROMPT_TOKENS;
    gen.prompt = random_tokens(n, info->vocab);
    gen.max_tokens = answer;
    gen.sampling.temperature = 0;
    gen.ignore_eos = gen.bare = true;
    p->begun_ns = clock_mono_ns();
    snprintf(p->model, sizeof p->model, "%s", one->model);
    if (engine_submit(m->engine, &gen, &events, p, &p->id, &why)) {
        p->id = 0;
        on_fail(p, &why);
    }
    gen_request_free(&gen);
}

// Tokens that a request may have beside what is kept; it is kept on.
static int32_t room_of(const struct model *m, const struct worker_info *info) {
    struct engine_status status;
    engine_get_status(m->engine, &status);
    int64_t room = info->kv_cells - status.stats.cells_used - status.stats.cells_kept - STEPS_MOST - 1;
    int32_t most = (info->ctx < info->kv_cells ? info->ctx : info->kv_cells) / 2;
    return room < most ? (int32_t)room : most;
}

static void measure(struct profiles *p, struct entry *one, const struct model *m, const struct worker_info *info) {
    int32_t most = room_of(m, info);
    while (one->step < LENGTHS && lengths[one->step] > most) one->step++;
    int32_t length = one->step < LENGTHS ? lengths[one->step] : lengths[0];
    int32_t answer = one->step < LENGTHS ? answer_tokens(one, length) : 0;
    if (!answer && is_hardly_known(one)) { // a slow machine
        length = lengths[0];
        answer = 2;
    }
    if (info->vocab < 1 || most < lengths[0])
        give_up(one, "there is no room for it in its KV cache");
    else if (answer)
        submit(p, one, m, info, length, answer);
    else
        finish(p, one);
    if (!p->id) wake(p, &at_once); // the next model
}

static bool is_busy(const struct serve *s) {
    struct engine_status status;
    for (const struct model *m = models_next(s->models, NULL); m; m = models_next(s->models, m)) {
        engine_get_status(m->engine, &status);
        if (status.requests || status.state == ENGINE_LOADING) return true;
    }
    return s->metrics.active || !TAILQ_EMPTY(&s->sites);
}

static void on_turn(evutil_socket_t fd, short what, void *arg) {
    struct profiles *p = arg;
    struct serve *s = p->s;
    struct engine_status status;
    (void)fd, (void)what;
    if (p->id || s->stopping || !s->models) return;
    for (const struct model *m = models_next(s->models, NULL); m; m = models_next(s->models, m)) {
        struct entry *one = profiles_ready(m, &status) ? profiles_entry(p, m, &status.info) : NULL;
        if (!one || !one->wanted) continue;
        if (is_busy(s))
            wake(p, &later);
        else
            measure(p, one, m, &status.info);
        return;
    }
}

static void on_models(void *arg) {
    const struct profiles *p = arg;
    if (!p->id) wake(p, &at_once);
}

int profiles_measure_init(struct profiles *p, struct err *e) {
    p->turn = event_new(p->s->base, -1, 0, on_turn, p);
    if (!p->turn) return err_set(e, ERR_INTERNAL, "out of memory");
    models_listen(p->s->models, on_models, p);
    return 0;
}

void profiles_measure_end(struct profiles *p) {
    if (p->turn) event_free(p->turn);
    p->turn = NULL;
}

void profiles_yield(struct profiles *p) {
    if (!p || !p->id) return;
    const struct model *m = models_find(p->s->models, p->model);
    struct entry *one = find(p, p->model);
    if (m) engine_cancel(m->engine, p->id);
    if (one && one->step) one->spent_s += (double)(clock_mono_ns() - p->begun_ns) / 1e9; // or it might never end
    p->id = 0;
    wake(p, &later);
}
