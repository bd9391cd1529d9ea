// The handle on a worker, against workers that lie, die and say nothing. This program is its own fake worker:
// engine_start runs it with the argument "worker", and the "model_path" of the load message tells it how to behave.
#include "base/env.h"
#include "engine/client.h"
#include "engine/watch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { FLOOD = 20000, HANG = 120000, LOOK = 10 };

// ---------------------------------------------------------------- the fake worker
static void say_bytes(const void *data, size_t n) {
    if (write(3, data, n) != (ssize_t)n) _exit(90);
}

static void say(json_t *msg) {
    struct buf b;
    buf_init(&b, LIMIT_IPC_FROM_WORKER);
    if (frame_append(&b, msg)) _exit(91);
    say_bytes(b.data, b.len);
    buf_free(&b);
    json_decref(msg);
}

static _Noreturn void be_silent(void) {
    signal(SIGTERM, SIG_IGN);
    for (;;) pause();
}

// The next message, or NULL when the daemon has closed the socket.
static json_t *hear(void) {
    static struct buf in;
    if (!in.max) buf_init(&in, LIMIT_IPC_TO_WORKER + (1 << 16));
    json_t *msg;
    size_t used;
    struct err e;
    for (;;) {
        int rc = frame_take(in.data, in.len, LIMIT_IPC_TO_WORKER, &msg, &used, &e);
        if (rc < 0) _exit(92);
        if (rc > 0) {
            buf_consume(&in, used);
            return msg;
        }
        if (buf_reserve(&in, 1 << 16)) _exit(93);
        ssize_t n = read(3, in.data + in.len, 1 << 16);
        if (n <= 0) return NULL;
        in.len += (size_t)n;
    }
}

static const struct kv_shape fake_kv = {.form = KV_ROWS,
                                        .dtype = KV_F16,
                                        .layers = 2,
                                        .unit = 8,
                                        .width = {32, 32},
                                        .head = 16,
                                        .cell = 12,
                                        .middle = 8,
                                        .plane = 12};

static void say_ready(void) {
    struct worker_info info = {.arch = "fake", .parallel = 2, .ctx = 100, .kv = fake_kv};
    const char *spin = env_get("GOMP_SPINCOUNT");
    snprintf(info.description, sizeof info.description, "spin %s", spin ? spin : "as usual");
    say(info_encode(&info));
}

static void answer_gen(const json_t *msg) {
    json_int_t id = json_integer_value(json_object_get(msg, "id"));
    const char *prompt = json_string_value(json_object_get(msg, "prompt"));
    if (!strcmp(prompt, "hold")) return;
    if (!strcmp(prompt, "die")) _exit(7);
    if (!strcmp(prompt, "compute slowly")) say(pulse_encode(&(struct worker_pulse){0, HANG - 1}));
    if (!strcmp(prompt, "read slowly")) say(pulse_encode(&(struct worker_pulse){HANG - 1, 0}));
    if (!strcmp(prompt, "compute for ever")) say(pulse_encode(&(struct worker_pulse){0, HANG}));
    if (!strcmp(prompt, "read for ever")) say(pulse_encode(&(struct worker_pulse){HANG, 0}));
    if (strstr(prompt, "for ever")) return;
    if (!strcmp(prompt, "refuse")) {
        struct err why = {.code = ERR_LIMIT, .param = "messages", .msg = "too long"};
        say(error_encode((uint64_t)id, &why));
        return;
    }
    static const int32_t tokens[] = {7, 8, 9};
    say(begin_encode((uint64_t)id, &(struct gen_begin){.prompt_tokens = 3, .cached_tokens = 1, .tokens = tokens}));
    say(json_pack("{s:s, s:[[I,s,i],[I,s,i]]}", "t", "tokens", "d", id + 1000, "not yours", 1, id, "hel", 1));
    say(json_pack("{s:s, s:[[I,s,i]]}", "t", "tokens", "d", id, "lo", 2));
    struct gen_result r = {.finish = FINISH_STOP, .prompt_tokens = 3, .completion_tokens = 2};
    say(result_encode((uint64_t)id, &r));
}

// Makes the handle want to say something without end, and reads none of it until later. Then tells how much it was.
static int flood_and_count(void) {
    struct worker_stats s = {.requests = 1};
    for (int i = 0; i < FLOOD; i++)
        say(json_pack("{s:s, s:i, s:s, s:s}", "t", "error", "id", 999, "code", "x", "msg", ""));
    say(stats_encode(&s)); // the flood is over
    json_t *msg;
    for (bool asked = false; !asked && (msg = hear()); json_decref(msg)) {
        asked = !strcmp(json_string_value(json_object_get(msg, "t")), "gen");
        s.steps++;
    }
    s.requests = 2;
    say(stats_encode(&s));
    be_silent();
}

// Dies, and leaves a process behind that keeps the socket open and full.
static int leave_a_flooder(void) {
    struct worker_stats s = {.requests = 1};
    if (fork()) return 6;
    for (;;) say(stats_encode(&s));
}

// Orders of sequences that move, answered at once: an export tells two planes of rows, one of them of another sequence.
static void answer_order(const char *type, const json_t *msg, const char *how) {
    struct order o;
    struct err e;
    uint64_t id;
    if (!strcmp(type, "blocks")) {
        struct worker_stats s = {.requests = 100 + (int64_t)json_array_size(json_object_get(msg, "free"))};
        say(stats_encode(&s));
    }
    if (order_kind_of(type) < 0) return;
    if (order_decode(msg, &id, &o, &e)) _exit(96);
    struct kv_rows rows[] = {{.first = o.first, .count = 4}, {.first = o.first, .count = 4, .block = 1, .kind = KV_V}};
    if (!strcmp(how, "lends twice")) rows[1].block = 2;
    if (!strcmp(how, "lends what is not there")) rows[1].block = 1 << 20;
    if (!strcmp(how, "rows of no layer")) rows[1].layer = 2;
    if (!strcmp(how, "rows beyond the context")) rows[1].first = 97;
    if (!strcmp(how, "too many rows")) rows[1].count = 9;
    int32_t lie = !strcmp(how, "installs what is not there");
    if (o.kind == ORDER_EXPORT && o.first >= 0) {
        say(rows_encode(id + 1000, rows, 1));
        rows[0].block = 2;
        say(rows_encode(id, rows, 2));
    }
    if (o.kind == ORDER_INSTALL) say(installed_encode(id, o.first + o.count, o.slot + lie));
    if (o.kind == ORDER_PAUSE) say(paused_encode(id, 3, strcmp(how, "pauses beyond the context") ? 8 : 101));
    if (o.kind == ORDER_GO) {
        say(json_pack("{s:s, s:[[I,s,i,i]]}", "t", "tokens", "d", (json_int_t)id, "go", (int)o.n + 1, (int)o.from));
        struct gen_result r = {.finish = FINISH_STOP, .prompt_tokens = 3, .completion_tokens = o.n + 1};
        say(result_encode(id, &r));
    }
    order_free(&o);
}

static int serve_honestly(const char *how) {
    bool report_cancels = !strcmp(how, "exits on cancel");
    json_t *msg;
    while ((msg = hear())) {
        const char *type = json_string_value(json_object_get(msg, "t"));
        answer_order(type, msg, how);
        if (!strcmp(type, "gen")) answer_gen(msg);
        if (!strcmp(type, "stats")) {
            struct worker_stats s = {.requests = 42};
            say(stats_encode(&s));
        }
        if (!strcmp(type, "cancel") && report_cancels) _exit(5);
        json_decref(msg);
    }
    return 0;
}

static int fake_worker(void) {
    json_t *load = hear();
    if (!load) return 94;
    struct engine_options o;
    struct err e;
    if (load_decode(load, &o, &e)) return 95;
    const char *how = o.model_path;
    if (!strcmp(how, "dies while loading")) return 3;
    if (!strcmp(how, "is silent")) be_silent();
    if (!strcmp(how, "huge frame")) say_bytes("\xff\xff\xff\x7f", 4);
    if (!strcmp(how, "garbage")) say_bytes("\5\0\0\0garbage", 11);
    if (!strcmp(how, "array")) say_bytes("\2\0\0\0[]", 6);
    if (!strcmp(how, "unknown type")) say(json_pack("{s:s}", "t", "surprise"));
    if (!strcmp(how, "wrong member")) say(json_pack("{s:s, s:s}", "t", "progress", "f", "much"));
    if (!strcmp(how, "refuses")) {
        struct err why = {.code = ERR_INVALID, .msg = "not a GGUF"};
        say(error_encode(0, &why));
        return 1;
    }
    say(json_pack("{s:s, s:f}", "t", "progress", "f", 0.5));
    say_ready();
    if (!strcmp(how, "ready twice")) say_ready();
    if (!strcmp(how, "closes its end")) {
        close(3);
        be_silent();
    }
    if (!strcmp(how, "floods")) return flood_and_count();
    if (!strcmp(how, "leaves a flooder")) return leave_a_flooder();
    return serve_honestly(how);
}

// ---------------------------------------------------------------- the world around the handle
struct world {
    struct event_base *base;
    struct engine *w;
    struct event *net; // a hang ends the test after a minute
    int changes, begins, ends, fails;
    char text[64];
    struct err why;
    struct gen_result result;
    bool late;
    // sequences that move
    uint64_t mover;
    int rows, installed, paused;
    int32_t block, token, upto, slot;
    bool drop_at_rows;
};

static void on_changed(void *arg) { ((struct world *)arg)->changes++; }
static void on_begin(void *arg, const struct gen_begin *b) {
    assert_int_equal(b->prompt_tokens, 3);
    assert_int_equal(b->cached_tokens, 1);
    assert_int_equal(b->tokens[2], 9);
    ((struct world *)arg)->begins++;
}
static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t token) {
    struct world *t = arg;
    t->token = token;
    assert_int_equal(len, strlen(text));
    assert_true(tokens > 0);
    strncat(t->text, text, sizeof t->text - strlen(t->text) - 1);
}
static void on_end(void *arg, const struct gen_result *r) {
    struct world *t = arg;
    t->ends++;
    t->result = *r;
}
static void on_fail(void *arg, const struct err *why) {
    struct world *t = arg;
    t->fails++;
    t->why = *why;
}
static void on_rows(void *arg, const struct kv_rows *r) {
    struct world *t = arg;
    t->rows++;
    t->block = r->block;
    assert_int_equal(r->count, 4);
    if (t->drop_at_rows) engine_cancel(t->w, t->mover);
}
static void on_installed(void *arg, int32_t upto, int32_t slot) {
    struct world *t = arg;
    t->installed++;
    t->upto = upto;
    t->slot = slot;
}
static void on_paused(void *arg, int32_t tokens, int32_t past) {
    ((struct world *)arg)->paused++;
    assert_int_equal(tokens, 3);
    assert_int_equal(past, 8);
}
static const struct gen_events events = {.begin = on_begin,
                                         .text = on_text,
                                         .end = on_end,
                                         .fail = on_fail,
                                         .rows = on_rows,
                                         .installed = on_installed,
                                         .paused = on_paused};

static void on_late(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    ((struct world *)arg)->late = true;
}

#define RUN_UNTIL(t, condition)                                                                                        \
    do {                                                                                                               \
        while (!(condition) && !(t)->late) assert_int_equal(event_base_loop((t)->base, EVLOOP_ONCE), 0);               \
        assert_false((t)->late);                                                                                       \
    } while (0)

static struct engine_status status_of(const struct world *t) {
    struct engine_status s;
    engine_get_status(t->w, &s);
    return s;
}

static void start(struct world *t, const char *behaviour) {
    char self[PATH_SIZE];
    struct err e = {.code = ERR_NONE};
    struct engine_options o = {.model_name = "m", .parallel = 2, .queue = 1, .kv_buffer = 1};
    struct engine_timing quick = {.backoff_first = 1,
                                  .backoff_most = 4,
                                  .healthy = 60000,
                                  .kill = 50,
                                  .stall = 60000,
                                  .look = 60000,
                                  .hang = HANG};
    snprintf(o.model_path, sizeof o.model_path, "%s", behaviour);
    *t = (struct world){.base = event_base_new()};
    assert_non_null(t->base);
    t->net = evtimer_new(t->base, on_late, t);
    assert_int_equal(event_add(t->net, &(struct timeval){.tv_sec = 60}), 0);
    assert_int_equal(path_self(self, &e), 0);
    t->w = engine_start(t->base, self, &o, on_changed, t, &e);
    assert_non_null(t->w);
    engine_set_timing(t->w, &quick);
    assert_int_equal(t->changes, 0);
}

// Stops the handle and runs the loop until it has nothing left: the process is reaped, the handle freed.
static void finish(struct world *t) {
    engine_stop(t->w);
    event_free(t->net);
    assert_int_equal(event_base_dispatch(t->base), 1);
    event_base_free(t->base);
}

static int submit(struct world *t, const char *prompt, uint64_t *id, struct err *e) {
    struct gen_request r;
    gen_request_init(&r);
    r.prompt = json_string(prompt);
    int rc = engine_submit(t->w, &r, &events, t, id, e);
    gen_request_free(&r);
    return rc;
}

static uint64_t must_submit(struct world *t, const char *prompt) {
    uint64_t id = 0;
    struct err e = {.code = ERR_NONE};
    assert_int_equal(submit(t, prompt, &id, &e), 0);
    assert_int_not_equal(id, 0);
    return id;
}

// ---------------------------------------------------------------- tests
static void test_requests_wait_and_are_answered(void **state) {
    (void)state;
    struct world t;
    start(&t, "honest");
    must_submit(&t, "say hello"); // before it is ready
    assert_int_equal(t.begins + t.ends + t.fails, 0);
    RUN_UNTIL(&t, t.ends == 1);
    assert_int_equal(t.begins, 1);
    assert_string_equal(t.text, "hello"); // tokens of unknown requests are dropped
    assert_int_equal(t.token, -1);
    assert_int_equal(t.result.completion_tokens, 2);
    assert_int_equal(status_of(&t).state, ENGINE_READY);
    assert_string_equal(status_of(&t).info.arch, "fake");
    assert_true(t.changes >= 2);
    RUN_UNTIL(&t, status_of(&t).stats.requests == 42); // asked for when it came to rest
    must_submit(&t, "refuse");
    RUN_UNTIL(&t, t.fails == 1);
    assert_int_equal(t.why.code, ERR_LIMIT);
    assert_string_equal(t.why.param, "messages");
    assert_int_equal(status_of(&t).requests, 0);
    finish(&t);
}

static void test_full(void **state) {
    (void)state;
    struct world t;
    struct err e;
    uint64_t id, first;
    start(&t, "honest");
    first = must_submit(&t, "hold");
    must_submit(&t, "hold");
    must_submit(&t, "hold");
    assert_int_equal(submit(&t, "hold", &id, &e), -1); // 2 parallel + 1 waiting
    assert_int_equal(e.code, ERR_BUSY);
    engine_cancel(t.w, first);
    engine_cancel(t.w, 12345);
    must_submit(&t, "hold");
    finish(&t);
    assert_int_equal(t.fails, 3);
    assert_int_equal(t.why.code, ERR_CANCELLED);
}

static void test_cancel_reaches_the_worker(void **state) {
    (void)state;
    struct world t;
    start(&t, "exits on cancel");
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
    uint64_t id = must_submit(&t, "hold");
    engine_cancel(t.w, id);
    RUN_UNTIL(&t, strstr(status_of(&t).why.msg, "exited with code 5"));
    assert_int_equal(t.begins + t.ends + t.fails, 0);
    finish(&t);
}

static void test_death_with_requests(void **state) {
    (void)state;
    struct world t;
    start(&t, "honest");
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
    must_submit(&t, "hold");
    must_submit(&t, "die");
    RUN_UNTIL(&t, t.fails == 2);
    assert_int_equal(t.why.code, ERR_WORKER);
    assert_non_null(strstr(t.why.msg, "exited with code 7"));
    must_submit(&t, "hello again"); // waits for the next worker
    RUN_UNTIL(&t, t.ends == 1);
    assert_int_equal(status_of(&t).restarts, 1);
    pid_t pid = status_of(&t).pid;
    must_submit(&t, "hold");
    kill(pid, SIGKILL);
    RUN_UNTIL(&t, t.fails == 3);
    assert_non_null(strstr(t.why.msg, "signal 9"));
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
    assert_int_equal(status_of(&t).restarts, 2);
    assert_int_not_equal(status_of(&t).pid, pid);
    finish(&t);
}

static void test_dies_while_loading(void **state) {
    (void)state;
    struct world t;
    struct err e;
    uint64_t id;
    start(&t, "dies while loading");
    must_submit(&t, "hello"); // survives the first two deaths: no worker has seen it
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_FAILED);
    assert_int_equal(status_of(&t).restarts, 2);
    assert_int_equal(t.fails, 1);
    assert_int_equal(t.why.code, ERR_WORKER);
    assert_int_equal(submit(&t, "hello", &id, &e), -1);
    assert_int_equal(e.code, ERR_WORKER);
    assert_int_equal(status_of(&t).pid, 0);
    finish(&t);
}

static void test_refuses_the_model(void **state) {
    (void)state;
    struct world t;
    start(&t, "refuses");
    must_submit(&t, "hello");
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_FAILED && !status_of(&t).pid);
    assert_int_equal(status_of(&t).restarts, 0); // trying again would not help
    assert_int_equal(status_of(&t).why.code, ERR_INVALID);
    assert_int_equal(t.fails, 1);
    assert_int_equal(t.why.code, ERR_WORKER);
    assert_non_null(strstr(t.why.msg, "not a GGUF"));
    finish(&t);
}

static void test_liars_are_killed(void **state) {
    (void)state;
    static const char *const lies[] = {"huge frame", "garbage", "array", "unknown type", "wrong member", "ready twice"};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct world t;
        start(&t, lies[i]);
        RUN_UNTIL(&t, status_of(&t).why.code != ERR_NONE);
        assert_int_equal(status_of(&t).why.code, ERR_WORKER);
        assert_non_null(strstr(status_of(&t).why.msg, "protocol"));
        RUN_UNTIL(&t, status_of(&t).restarts >= 1);
        finish(&t);
    }
}

static void test_silent_ones_are_killed(void **state) {
    (void)state;
    struct world t;
    start(&t, "closes its end"); // and does not exit
    RUN_UNTIL(&t, status_of(&t).restarts == 1);
    assert_non_null(strstr(status_of(&t).why.msg, "signal 9"));
    finish(&t);
    start(&t, "is silent"); // and ignores SIGTERM
    must_submit(&t, "hello");
    pid_t pid = status_of(&t).pid;
    finish(&t);
    assert_int_equal(t.fails, 1);
    assert_int_equal(t.why.code, ERR_CANCELLED);
    assert_int_equal(kill(pid, 0), -1);
}

// What waits to be read by a worker that does not read is bounded, whatever it says.
static void test_a_flood_is_not_answered(void **state) {
    (void)state;
    struct world t;
    start(&t, "floods");
    RUN_UNTIL(&t, status_of(&t).stats.requests == 1);
    must_submit(&t, "hold");
    RUN_UNTIL(&t, status_of(&t).stats.requests == 2);
    assert_in_range(status_of(&t).stats.steps, 1, FLOOD / 4); // what fits into the socket
    finish(&t);
}

static void test_what_a_worker_leaves_behind_ends(void **state) {
    (void)state;
    struct world t;
    start(&t, "leaves a flooder");
    RUN_UNTIL(&t, status_of(&t).restarts == 2);
    assert_non_null(strstr(status_of(&t).why.msg, "exited with code 6"));
    finish(&t);
}

static void test_loading_without_progress_ends(void **state) {
    (void)state;
    struct world t;
    struct engine_timing impatient = {
        .backoff_first = 1, .backoff_most = 4, .healthy = 60000, .kill = 50, .stall = 20, .look = 60000};
    start(&t, "is silent");
    engine_set_timing(t.w, &impatient);
    must_submit(&t, "hello");
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_FAILED);
    assert_int_equal(status_of(&t).restarts, 2); // each counts as a death while loading
    assert_non_null(strstr(status_of(&t).why.msg, "no progress"));
    assert_int_equal(status_of(&t).pid, 0);
    assert_int_equal(t.fails, 1);
    finish(&t);
}

// ---------------------------------------------------------------- workers that hang
static void look_every(struct world *t, long ms) {
    struct engine_timing timing = {.backoff_first = 1, .backoff_most = 4, .healthy = 60000, .kill = 50};
    timing.stall = 60000;
    timing.look = ms;
    timing.hang = HANG;
    engine_set_timing(t->w, &timing);
}

// Requests of a worker that is given up fail, and the next worker serves those that come.
static void check_given_up(struct world *t, const char *why, int fails) {
    RUN_UNTIL(t, t->fails == fails);
    assert_int_equal(t->why.code, ERR_WORKER);
    assert_non_null(strstr(t->why.msg, why));
    assert_int_equal(status_of(t).state, ENGINE_WAITING);
    look_every(t, 60000);
    must_submit(t, "hello again");
    RUN_UNTIL(t, t->ends > 0);
    assert_int_equal(status_of(t).restarts, 1);
    assert_non_null(strstr(status_of(t).why.msg, why)); // not "killed by signal 9"
}

static void test_stopped_ones_are_killed(void **state) {
    (void)state;
    struct world t;
    siginfo_t info;
    start(&t, "honest");
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
    pid_t pid = status_of(&t).pid;
    kill(pid, SIGSTOP);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT), 0);
    look_every(&t, LOOK);
    must_submit(&t, "hold");
    must_submit(&t, "hello");
    check_given_up(&t, "stopped by a signal", 2);
    assert_int_equal(kill(pid, 0), -1);
    finish(&t);
}

static void test_mute_ones_are_killed(void **state) {
    (void)state;
    struct world t;
    start(&t, "honest");
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
    pid_t pid = status_of(&t).pid;
    look_every(&t, LOOK);
    must_submit(&t, "hold"); // and says nothing any more
    check_given_up(&t, "said nothing", 1);
    assert_int_equal(kill(pid, 0), -1);
    finish(&t);
}

static void test_idle_ones_may_be_silent(void **state) {
    (void)state;
    struct world t;
    start(&t, "honest");
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
    look_every(&t, LOOK);
    engine_cancel(t.w, must_submit(&t, "hold"));
    struct timeval while_idle = {.tv_usec = 2 * WATCH_SILENT * LOOK * 1000};
    assert_int_equal(event_base_loopexit(t.base, &while_idle), 0);
    assert_int_equal(event_base_dispatch(t.base), 0);
    assert_int_equal(status_of(&t).state, ENGINE_READY);
    assert_int_equal(status_of(&t).restarts, 0);
    must_submit(&t, "hold"); // looked at again
    check_given_up(&t, "said nothing", 1);
    finish(&t);
}

static void test_hanging_ones_are_killed(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"compute for ever", "computed nothing of a step for 120 s"},
                                           {"read for ever", "reading one and the same request for 120 s"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world t;
        start(&t, "honest");
        RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
        must_submit(&t, "hold");
        must_submit(&t, cases[i][0]);
        check_given_up(&t, cases[i][1], 2);
        finish(&t);
    }
}

static void test_slow_ones_are_not(void **state) {
    (void)state;
    struct world t;
    start(&t, "honest");
    must_submit(&t, "compute slowly");
    RUN_UNTIL(&t, t.ends == 1);
    must_submit(&t, "read slowly");
    RUN_UNTIL(&t, t.ends == 2);
    assert_int_equal(status_of(&t).restarts, 0);
    finish(&t);
}

static void test_environment(void **state) {
    (void)state;
    struct world t;
    start(&t, "honest");
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
    assert_string_equal(status_of(&t).info.description, "spin 1000");
    finish(&t);
    env_default("OMP_WAIT_POLICY", "passive"); // the user knows better
    start(&t, "honest");
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
    assert_string_equal(status_of(&t).info.description, "spin as usual");
    finish(&t);
    unsetenv("OMP_WAIT_POLICY");
}

static void stop_on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t token) {
    struct world *t = arg;
    (void)text, (void)len, (void)tokens, (void)token;
    engine_stop(t->w);
    t->w = NULL;
}

static void test_stop_from_a_callback(void **state) {
    (void)state;
    struct world t;
    struct gen_request r;
    struct gen_events ev = {.begin = on_begin, .text = stop_on_text, .end = on_end, .fail = on_fail};
    uint64_t id;
    struct err e;
    start(&t, "honest");
    gen_request_init(&r);
    r.prompt = json_string("say hello");
    assert_int_equal(engine_submit(t.w, &r, &ev, &t, &id, &e), 0);
    gen_request_free(&r);
    RUN_UNTIL(&t, !t.w);
    assert_int_equal(t.fails, 1); // within engine_stop
    assert_int_equal(t.ends, 0);
    finish(&t);
}

// ---------------------------------------------------------------- sequences that move
static void start_mover(struct world *t, const char *behaviour) {
    start(t, behaviour);
    RUN_UNTIL(t, status_of(t).state == ENGINE_READY);
    t->mover = must_submit(t, "hold");
}

static void test_orders(void **state) {
    (void)state;
    struct world t;
    struct err e;
    int32_t slots[2], tokens[] = {5, 6};
    start_mover(&t, "honest");
    struct arena *a = engine_arena(t.w);
    assert_non_null(a);
    assert_int_equal(engine_export(t.w, t.mover, 0, 1, &e), 0);
    RUN_UNTIL(&t, t.rows == 2);
    RUN_UNTIL(&t, status_of(&t).stats.requests == 101); // the rows of a sequence that nobody knows go back at once
    assert_int_equal(t.block, 1);
    assert_int_equal(engine_give_blocks(t.w, a, &t.block, 1), 0);
    assert_int_equal(engine_credit(t.w, t.mover, 1, &e), 0);
    assert_int_equal(arena_take(a, 2, slots, &e), 0);
    assert_int_equal(engine_install(t.w, t.mover, &(struct engine_unit){slots[1], 4, 4, true}, &e), 0);
    RUN_UNTIL(&t, t.installed == 1);
    assert_int_equal(t.upto, 8);
    assert_int_equal(t.slot, slots[1]);
    assert_int_equal(engine_pause(t.w, t.mover, &e), 0);
    RUN_UNTIL(&t, t.paused == 1);
    assert_int_equal(engine_go(t.w, t.mover, tokens, 2, 8, &e), 0);
    RUN_UNTIL(&t, t.ends == 1);
    assert_int_equal(t.token, 8); // the fake one tells `from` as the token
    assert_int_equal(t.result.completion_tokens, 3);
    assert_int_equal(engine_pause(t.w, t.mover, &e) + engine_credit(t.w, 77, 1, &e), 0); // unknown ones are fine
    finish(&t);
}

// Orders for a request that no worker has seen yet follow it.
static void test_orders_wait(void **state) {
    (void)state;
    struct world t;
    struct err e;
    start(&t, "honest");
    assert_null(engine_arena(t.w));
    t.mover = must_submit(&t, "hold");
    assert_int_equal(engine_export(t.w, t.mover, 0, 1, &e), -1); // not known yet whether that can be
    assert_int_equal(engine_pause(t.w, t.mover, &e), 0);
    assert_int_equal(engine_go(t.w, t.mover, NULL, 0, -1, &e), 0);
    RUN_UNTIL(&t, t.ends == 1);
    assert_int_equal(t.paused, 1);
    finish(&t);
}

// A slot stays with the worker until it has told that it is through with it, also when the request is dropped.
static void test_slots_are_pinned(void **state) {
    (void)state;
    struct world t;
    struct err e;
    int32_t all[LIMIT_KV_SLOTS], again;
    start_mover(&t, "honest");
    struct arena *a = engine_arena(t.w);
    int32_t n = arena_slots(a);
    assert_int_equal(arena_take(a, n, all, &e), 0);
    assert_int_equal(engine_install(t.w, t.mover, &(struct engine_unit){all[0], 0, 4, false}, &e), 0);
    engine_cancel(t.w, t.mover);
    arena_give(a, all[0]);
    assert_int_equal(arena_take(a, 1, &again, &e), -1);
    while (arena_take(a, 1, &again, &e)) RUN_UNTIL(&t, event_base_loop(t.base, EVLOOP_ONCE) == 0);
    assert_int_equal(again, all[0]);
    assert_int_equal(t.installed + t.ends + t.fails, 0);
    finish(&t);
}

static void test_dropped_at_rows(void **state) {
    (void)state;
    struct world t;
    struct err e;
    start_mover(&t, "honest");
    t.drop_at_rows = true;
    assert_int_equal(engine_export(t.w, t.mover, 0, 1, &e), 0);
    RUN_UNTIL(&t, t.rows == 1 && arena_block_out(engine_arena(t.w), 1) == -1 &&
                      status_of(&t).stats.requests == 101); // the second one went back by itself
    assert_int_equal(t.rows, 1);
    assert_int_equal(engine_give_blocks(t.w, engine_arena(t.w), &t.block, 1), 0);
    finish(&t);
}

static void test_liars_about_rows(void **state) {
    (void)state;
    static const char *const lies[] = {"lends twice",
                                       "lends what is not there",
                                       "rows of no layer",
                                       "too many rows",
                                       "rows beyond the context",
                                       "installs what is not there",
                                       "pauses beyond the context"};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct world t;
        struct err e;
        int32_t slot;
        start_mover(&t, lies[i]);
        assert_int_equal(arena_take(engine_arena(t.w), 1, &slot, &e), 0);
        assert_int_equal(engine_install(t.w, t.mover, &(struct engine_unit){slot, 0, 4, false}, &e), 0);
        assert_int_equal(engine_pause(t.w, t.mover, &e), 0);
        assert_int_equal(engine_export(t.w, t.mover, 0, 1, &e), 0);
        RUN_UNTIL(&t, t.fails == 1);
        assert_int_equal(t.why.code, ERR_WORKER);
        assert_non_null(strstr(t.why.msg, "broke the protocol"));
        finish(&t);
    }
}

static void test_blocks_of_a_dead_worker(void **state) {
    (void)state;
    struct world t;
    struct err e;
    start_mover(&t, "honest");
    assert_int_equal(engine_export(t.w, t.mover, 0, 1, &e), 0);
    RUN_UNTIL(&t, t.rows == 2);
    struct arena *old = arena_ref(engine_arena(t.w));
    kill(status_of(&t).pid, SIGKILL);
    RUN_UNTIL(&t, t.fails == 1);
    memset(arena_block(old, t.block), 1, arena_block_bytes(old)); // still there
    RUN_UNTIL(&t, status_of(&t).state == ENGINE_READY);
    assert_ptr_not_equal(engine_arena(t.w), old);
    assert_int_equal(engine_give_blocks(t.w, old, &t.block, 1), 0); // not taken for the new one's
    arena_unref(old);
    must_submit(&t, "hello again");
    RUN_UNTIL(&t, t.ends == 1);
    finish(&t);
}

static void test_no_such_program(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct engine_options o = {.model_name = "m"};
    struct err e = {.code = ERR_NONE};
    assert_null(engine_start(base, "/does/not/exist", &o, NULL, NULL, &e));
    assert_int_equal(e.code, ERR_IO);
    event_base_free(base);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "worker")) _exit(fake_worker()); // no leak check of its own
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_wait_and_are_answered),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_cancel_reaches_the_worker),
        cmocka_unit_test(test_death_with_requests),
        cmocka_unit_test(test_dies_while_loading),
        cmocka_unit_test(test_refuses_the_model),
        cmocka_unit_test(test_liars_are_killed),
        cmocka_unit_test(test_silent_ones_are_killed),
        cmocka_unit_test(test_a_flood_is_not_answered),
        cmocka_unit_test(test_what_a_worker_leaves_behind_ends),
        cmocka_unit_test(test_loading_without_progress_ends),
        cmocka_unit_test(test_stopped_ones_are_killed),
        cmocka_unit_test(test_mute_ones_are_killed),
        cmocka_unit_test(test_idle_ones_may_be_silent),
        cmocka_unit_test(test_hanging_ones_are_killed),
        cmocka_unit_test(test_slow_ones_are_not),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_stop_from_a_callback),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_orders_wait),
        cmocka_unit_test(test_slots_are_pinned),
        cmocka_unit_test(test_dropped_at_rows),
        cmocka_unit_test(test_liars_about_rows),
        cmocka_unit_test(test_blocks_of_a_dead_worker),
        cmocka_unit_test(test_no_such_program),
    };
    signal(SIGPIPE, SIG_IGN);
    unsetenv("GOMP_SPINCOUNT");
    unsetenv("OMP_WAIT_POLICY");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
