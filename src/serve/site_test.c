// A place on a model of this node, whose worker and streams only write down what they are told.
#include "base/buf.h"
#include "serve/evidence.h"
#include "serve/links.h"
#include "serve/node.h"
#include "serve/place_ops.h"
#include "serve/profiles.h"
#include "serve/site.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct serve s;
static struct model model = {.name = "m"};
static struct buf done; // by the worker
static int dummy;       // what opaque handles point to

// ---------------------------------------------------------------- the node
const char *node_self(const struct serve *serve) {
    (void)serve;
    return "aaaa";
}
bool node_is_self(const struct serve *serve, const char *id) { return !strcmp(id, node_self(serve)); }

static char granted[128]; // what the sender of rows is told

int node_send(const struct serve *serve, const char *id, const json_t *msg, struct err *e) {
    (void)serve, (void)e;
    snprintf(granted, sizeof granted, "%s %s %lld", id, json_string_value(json_object_get(msg, "t")),
             json_integer_value(json_object_get(msg, "stream")));
    return 0;
}

void node_cut(const struct serve *serve, const char *id, const struct err *why) { (void)serve, (void)id, (void)why; }

struct model *models_get(struct models *m, const char *name, struct err *e) {
    (void)m, (void)e;
    assert_string_equal(name, "m");
    return &model;
}

struct transfers *cluster_transfers(const struct cluster *c) {
    (void)c;
    return NULL;
}

void profiles_yield(struct profiles *p) { (void)p; }
void profiles_job(struct profiles *p, const struct model *m, const struct fit_sample *seen) {
    (void)p, (void)m, (void)seen;
}
double profiles_rows_s(const struct serve *serve, const char *node_id, const char *name) {
    (void)serve, (void)node_id, (void)name;
    return 0;
}

bool links_estimate(const struct links *l, const char *node, struct links_estimate *out) {
    (void)l, (void)node;
    *out = (struct links_estimate){.bytes_s = 0};
    return false;
}

struct record *evidence_hold(struct record *r) {
    return r;
}
void evidence_release(struct record *r) { (void)r; }
void evidence_rows(struct record *r, enum entry_type type, const struct evidence_rows *rows) {
    (void)r, (void)type, (void)rows;
}

// ---------------------------------------------------------------- the worker
static const struct gen_events *gen;
static void *gen_arg;

int engine_submit(struct engine *w, const struct gen_request *r, const struct gen_events *ev, void *arg, uint64_t *id,
                  struct err *e) {
    (void)w, (void)r, (void)e;
    gen = ev;
    gen_arg = arg;
    *id = 7;
    return 0;
}

void engine_cancel(struct engine *w, uint64_t id) {
    (void)w;
    buf_printf(&done, "cancel %d; ", (int)id);
}

void engine_get_status(const struct engine *w, struct engine_status *out) {
    (void)w;
    *out = (struct engine_status){
        .state = ENGINE_READY, .requests = 1, .info = {.ctx = 512, .kv = {.form = KV_ROWS, .dtype = KV_F16}}};
}

struct arena *engine_arena(const struct engine *w) {
    (void)w;
    return (struct arena *)&dummy;
}

int engine_go(struct engine *w, uint64_t id, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    (void)w, (void)id, (void)generated, (void)e;
    buf_printf(&done, "go %d from %d; ", (int)n, (int)from);
    return 0;
}

int engine_pause(struct engine *w, uint64_t id, struct err *e) {
    (void)w, (void)id, (void)e;
    buf_puts(&done, "pause; ");
    return 0;
}

int engine_export(struct engine *w, uint64_t id, int32_t first, int32_t credits, struct err *e) {
    (void)w, (void)id, (void)e;
    buf_printf(&done, "export %d %d; ", (int)first, (int)credits);
    return 0;
}

int engine_credit(struct engine *w, uint64_t id, int32_t units, struct err *e) {
    (void)w, (void)id, (void)e;
    buf_printf(&done, "credit %d; ", (int)units);
    return 0;
}

int engine_install(struct engine *w, uint64_t id, const struct engine_unit *unit, struct err *e) {
    (void)w, (void)id, (void)e;
    buf_printf(&done, "install %d+%d%s; ", (int)unit->first, (int)unit->count, unit->coarse ? " coarse" : "");
    return 0;
}

// ---------------------------------------------------------------- streams
static struct flow_figures figures;
static const struct inflow_events *in_events;
static void *in_arg;

struct inflow *inflow_open(struct transfers *t, const struct inflow_spec *spec, const struct inflow_events *ev,
                           void *arg, struct err *e) {
    (void)t, (void)e;
    assert_string_equal(spec->from, "bbbb");
    in_events = ev;
    in_arg = arg;
    return (struct inflow *)&dummy;
}

void inflow_close(struct inflow *f) { (void)f; }
void inflow_installed(struct inflow *f, int32_t slot) { (void)f, (void)slot; }
void inflow_figures(const struct inflow *f, struct flow_figures *out) {
    assert_non_null(f);
    *out = figures;
}

struct outflow *outflow_open(struct transfers *t, const struct outflow_spec *spec, const struct outflow_events *ev,
                             void *arg, struct err *e) {
    (void)t, (void)ev, (void)arg, (void)e;
    assert_string_equal(spec->to, "bbbb");
    return (struct outflow *)&dummy;
}

void outflow_close(struct outflow *f) { (void)f; }
void outflow_figures(const struct outflow *f, struct flow_figures *out) {
    assert_non_null(f);
    *out = figures;
}
int outflow_rows(struct outflow *f, int32_t layer, enum kv_kind kind, int32_t first, int32_t count, int32_t block,
                 struct err *e) {
    (void)f, (void)layer, (void)kind, (void)first, (void)count, (void)block, (void)e;
    return 0;
}

// ---------------------------------------------------------------- what the caller hears
static uint64_t heard_ns; // when the first row came
static char heard_wire[8];

static void on_opened(void *arg, const struct place_opened *o) { (void)arg, (void)o; }
static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t id) {
    (void)arg, (void)text, (void)len, (void)tokens, (void)id;
}
static void on_installed(void *arg, int32_t upto, uint64_t bytes, uint64_t came_ns, const char *wire) {
    (void)arg, (void)upto, (void)bytes;
    heard_ns = came_ns;
    snprintf(heard_wire, sizeof heard_wire, "%s", wire);
}
static void on_paused(void *arg, int32_t tokens, int32_t past) { (void)arg, (void)tokens, (void)past; }
static void on_cut(void *arg, bool arriving, const struct err *why) { (void)arg, (void)arriving, (void)why; }
static void on_ended(void *arg, const struct gen_result *r) { (void)arg, (void)r; }
static void on_failed(void *arg, const struct err *why) { (void)arg, (void)why; }

static struct place *place; // held, with 20 tokens of prompt, of which none is cached

static int setup(void **state) {
    static const struct place_events events = {on_opened, on_text,  on_installed, on_paused,
                                               on_cut,    on_ended, on_failed};
    struct err e;
    struct gen_request request;
    (void)state;
    TAILQ_INIT(&s.sites);
    buf_init(&done, 1 << 16);
    figures = (struct flow_figures){.begun_ns = 0};
    granted[0] = '\0';
    gen_request_init(&request);
    request.hold = true;
    const struct place_spec spec = {
        .model = "m", .gen = &request, .contract = "", .weights = "", .from = "bbbb", .stream = 5};
    place = site_open(&s, &spec, &events, NULL, &e);
    gen_request_free(&request);
    if (!place) return -1;
    gen->begin(gen_arg, &(struct gen_begin){.prompt_tokens = 20});
    return 0;
}

static int teardown(void **state) {
    (void)state;
    place_drop(place);
    buf_free(&done);
    return TAILQ_EMPTY(&s.sites) ? 0 : -1;
}

static void expect(const char *wanted) {
    assert_string_equal(buf_str(&done), wanted);
    buf_clear(&done);
}

// ---------------------------------------------------------------- tests
static void test_credits_come_from_the_receiver(void **state) {
    (void)state;
    struct err e;
    struct place_target to = {.node = "bbbb", .stream = 9, .first = 3, .credits = 4, .wire = ""};
    assert_int_equal(place_stream(place, &to, &e), 0);
    expect("export 3 4; ");
    site_credit(&s, "cccc", 9, 2); // it knows the number, and is not asked
    site_credit(&s, "bbbb", 8, 2);
    site_credit(&s, "", 9, 2);
    expect("");
    site_credit(&s, "bbbb", 9, 2);
    expect("credit 2; ");
    place_cut(place);
    buf_clear(&done);
    site_credit(&s, "bbbb", 9, 2); // nothing travels any more
    expect("");
}

static void test_what_travelled_coarsely_is_marked(void **state) {
    (void)state;
    figures = (struct flow_figures){.wire = KV_F16, .begun_ns = 77};
    in_events->unit(in_arg, 0, 0, 4);
    gen->installed(gen_arg, 4, 0);
    expect("install 0+4; ");
    assert_string_equal(granted, "bbbb site.credit 5");
    assert_string_equal(heard_wire, "f16");
    assert_int_equal(heard_ns, 77);
    figures.wire = KV_Q8_0;
    in_events->unit(in_arg, 1, 4, 8);
    expect("install 4+8 coarse; ");
    gen->installed(gen_arg, 12, 1);
    assert_string_equal(heard_wire, "q8_0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_credits_come_from_the_receiver, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_travelled_coarsely_is_marked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
