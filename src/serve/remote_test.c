// remote.c and orders.c against each other: a gateway's place on another node, with a link that carries JSON text and
// sites that only write down what they are told. Hostile words are put on the link by hand.
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "serve/evidence.h"
#include "serve/node.h"
#include "serve/orders.h"
#include "serve/place_ops.h"
#include "serve/remote.h"
#include "serve/site.h"
#include "serve/tickets.h"
#include "serve/warrant.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GATEWAY, NODE, STRANGER, NODES, QUEUE = 2 * ORDERS_MOST + 16, SITES = ORDERS_MOST + 8 };

static const char *const ids[NODES] = {"aaaa", "bbbb", "cccc"};
static struct serve serves[NODES];

// ---------------------------------------------------------------- the link
static struct word {
    int from, to;
    char *text;
} queue[QUEUE];
static int queued;
static bool is_down;
static int unsaid; // of the next words, so many are too long
static char link_cut[NODE_ID];

static void say(int from, int to, const char *text) {
    assert_true(queued < QUEUE);
    queue[queued++] = (struct word){from, to, strdup(text)};
}

// The audit log: what is begun is durable once the word that began it has been heard.
struct record {
    evidence_begun *begun;
    void *arg;
};
static struct record records[8 * QUEUE];
static int n_records, n_durable, unanswered;
static struct err no_log; // why nothing can be recorded; code 0: it can

struct record *evidence_begin(struct serve *s, const struct evidence_intent *i, evidence_begun *begun, void *arg,
                              struct err *e) {
    (void)s, (void)e;
    assert_string_equal(i->part, "place");
    assert_true(n_records < 8 * QUEUE);
    records[n_records] = (struct record){begun, arg};
    unanswered++;
    return &records[n_records++];
}

void evidence_end(struct record *r, const char *finish, const struct err *why, json_t *facts) {
    (void)why;
    json_decref(facts);
    if (!r) return;
    assert_non_null(finish);
    r->begun = NULL;
    unanswered--;
}

void evidence_note(struct record *r, enum entry_type type, json_t *facts) {
    (void)r, (void)type;
    json_decref(facts);
}

void evidence_deny(const struct serve *s, json_t *facts) {
    (void)s;
    json_decref(facts);
}

// Everybody may do everything (orders_test.c has what is refused), by whatever ticket.
struct ticket *tickets_use(const struct serve *s, const char *gateway, const json_t *document, enum ticket_fault *why) {
    static const struct policy_agent ann = {.id = "ann"};
    static const struct policy_subject who = {.lineage = &ann, .n = 1};
    struct ticket *t = calloc(1, sizeof *t);
    (void)s, (void)gateway, (void)document;
    assert_non_null(t);
    t->who = &who;
    *why = TICKET_FINE;
    return t;
}

int warrant_open(const struct serve *s, const struct ticket *t, const struct place_spec *spec, bool *rows,
                 struct err *e) {
    (void)s, (void)t, (void)spec, (void)e;
    *rows = true;
    return 0;
}

int warrant_start(const struct serve *s, const struct ticket *t, const struct warrant_start *what, struct err *e) {
    (void)s, (void)t, (void)what, (void)e;
    return 0;
}

int warrant_stream(const struct serve *s, const struct ticket *t, const char *to, struct err *e) {
    (void)s, (void)t, (void)to, (void)e;
    return 0;
}

int warrant_model(const struct ticket *t, const char *weights, struct err *e) {
    (void)t, (void)weights, (void)e;
    return 0;
}

static bool renewed; // another ticket came

int warrant_renew(const struct ticket *had, const struct ticket *t, struct err *e) {
    (void)had, (void)t, (void)e;
    renewed = true;
    return 0;
}

bool warrant_reads_only(const struct serve *s, const struct ticket *t) {
    (void)s, (void)t;
    return false;
}

json_t *warrant_decision(const struct serve *s, const struct ticket *t) {
    (void)s, (void)t;
    return json_object();
}

static void settle(void) {
    for (; n_durable < n_records; n_durable++)
        if (records[n_durable].begun) records[n_durable].begun(records[n_durable].arg, no_log.code ? &no_log : NULL);
}

static void deliver(const struct word *w) {
    struct err e;
    struct peer p = {.up = true};
    snprintf(p.id, sizeof p.id, "%s", ids[w->from]);
    json_t *msg = json_parse(w->text, strlen(w->text), &e);
    const char *type = json_string_value(json_object_get(msg, "t"));
    assert_true(orders_heard(&serves[w->to], &p, type, msg) || remote_heard(&serves[w->to], &p, type, msg));
    json_decref(msg);
    free(w->text);
    settle();
}

static void carry(void) {
    for (int i = 0; i < queued; i++) deliver(&queue[i]);
    queued = 0;
}

const char *node_self(const struct serve *s) { return ids[s - serves]; }
bool node_is_self(const struct serve *s, const char *id) { return !strcmp(id, node_self(s)); }

int node_send(const struct serve *s, const char *id, const json_t *msg, struct err *e) {
    if (is_down) return err_set(e, ERR_UNREACHABLE, "the link is down");
    if (unsaid && unsaid--) return err_set(e, ERR_LIMIT, "too long");
    char *text = json_text(msg);
    for (int i = 0; i < NODES; i++)
        if (!strcmp(ids[i], id)) say((int)(s - serves), i, text);
    free(text);
    return 0;
}

void node_name(const struct serve *s, const char *id, char *out, size_t size) {
    (void)s;
    snprintf(out, size, "node %s", id);
}

static struct model only = {.name = "m"};

struct model *models_find(const struct models *m, const char *name) {
    (void)m;
    return strcmp(name, only.name) ? NULL : &only;
}

struct model *models_next(const struct models *m, const struct model *after) {
    (void)m;
    return after ? NULL : &only;
}

void node_cut(const struct serve *s, const char *id, const struct err *why) {
    assert_true(s == &serves[NODE] || s == &serves[GATEWAY]);
    assert_int_not_equal(why->code, ERR_NONE);
    snprintf(link_cut, sizeof link_cut, "%s", id);
}

// ---------------------------------------------------------------- sites, and what the gateway hears
static struct site {
    struct place place;
    bool open;
} sites[SITES];
static int opened_sites;
static struct err refusal;    // code: the next open fails
static struct buf done, told; // on the node; at the gateway

static int fake_start(struct place *p, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    (void)p, (void)e;
    buf_puts(&done, "start");
    for (int32_t i = 0; i < n; i++) buf_printf(&done, " %d", (int)generated[i]);
    buf_printf(&done, " from %d; ", (int)from);
    return 0;
}

static int fake_stream(struct place *p, const struct place_target *to, struct err *e) {
    (void)p;
    buf_printf(&done, "stream %s %llu %d %d %s; ", to->node, (unsigned long long)to->stream, (int)to->first,
               (int)to->credits, to->wire);
    return strcmp(to->wire, "f16") ? err_set(e, ERR_INVALID, "no such wire") : 0;
}

static int fake_pause(struct place *p, struct err *e) {
    (void)p, (void)e;
    buf_puts(&done, "pause; ");
    return 0;
}

static void fake_cut(struct place *p) {
    (void)p;
    buf_puts(&done, "cut; ");
}

static void fake_drop(struct place *p) {
    struct site *site = (struct site *)p;
    assert_true(site->open);
    site->open = false;
    buf_puts(&done, "drop; ");
}

struct place *site_open(struct serve *s, const struct place_spec *spec, const struct place_events *ev, void *arg,
                        struct err *e) {
    static const struct place_ops ops = {fake_start, fake_stream, fake_pause, fake_cut, fake_drop, NULL, NULL};
    assert_ptr_equal(s, &serves[NODE]);
    char *prompt = json_text(spec->gen->prompt);
    buf_printf(&done, "open %s %s hold %d %s %s %s %llu; ", spec->model, prompt, spec->gen->hold, spec->contract,
               spec->weights, spec->from, (unsigned long long)spec->stream);
    free(prompt);
    if (refusal.code) {
        *e = refusal;
        return NULL;
    }
    assert_true(opened_sites < SITES);
    struct site *site = &sites[opened_sites++];
    *site = (struct site){{&ops, *ev, arg}, true};
    return &site->place;
}

void site_look(const struct place *p, struct site_view *out) {
    const struct site *site = (const struct site *)p;
    assert_true(site->open);
    *out = (struct site_view){"m", "decode", 3, (int32_t)(site - sites) + 1};
}

void site_credit(struct serve *s, const char *by, uint64_t stream, int32_t units) {
    assert_ptr_equal(s, &serves[NODE]);
    buf_printf(&done, "credit of %s %llu %d; ", by, (unsigned long long)stream, (int)units);
}

static void on_opened(void *arg, const struct place_opened *o) {
    (void)arg;
    buf_printf(&told, "opened %d cached %d credits %d whole %d %s %s %s", (int)o->begin.prompt_tokens,
               (int)o->begin.cached_tokens, (int)o->credits, o->whole, o->contract, o->weights, o->emulated);
    for (int32_t i = 0; o->begin.tokens && i < o->begin.prompt_tokens; i++)
        buf_printf(&told, " %d", (int)o->begin.tokens[i]);
    buf_puts(&told, "; ");
}

static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t id) {
    (void)arg;
    buf_printf(&told, "text %.*s %d %d; ", (int)len, text, (int)tokens, (int)id);
}

static uint64_t told_ns; // when the first frame came

static void on_installed(void *arg, int32_t upto, uint64_t bytes, uint64_t came_ns, const char *wire) {
    (void)arg;
    told_ns = came_ns;
    buf_printf(&told, "installed %d %llu %s; ", (int)upto, (unsigned long long)bytes, wire);
}

static void on_paused(void *arg, int32_t tokens, int32_t past) {
    (void)arg;
    buf_printf(&told, "paused %d %d; ", (int)tokens, (int)past);
}

static void on_cut(void *arg, bool arriving, const struct err *why) {
    (void)arg;
    buf_printf(&told, "%s %s; ", arriving ? "starved" : "cut", err_name(why->code));
}

static void on_ended(void *arg, const struct gen_result *r) {
    (void)arg;
    buf_printf(&told, "ended %s %d; ", finish_name(r->finish), (int)r->completion_tokens);
}

static void on_failed(void *arg, const struct err *why) {
    (void)arg;
    buf_printf(&told, "failed %s; ", err_name(why->code));
}

// ---------------------------------------------------------------- the tests' words
static struct place *open_place(struct err *e) {
    static const struct place_events events = {on_opened, on_text,  on_installed, on_paused,
                                               on_cut,    on_ended, on_failed};
    struct gen_request gen;
    gen_request_init(&gen);
    gen.kind = PROMPT_TOKENS;
    gen.prompt = json_pack("[i,i,i]", 5, 6, 7);
    gen.hold = true;
    struct place_spec spec = {
        .model = "m", .gen = &gen, .contract = "ab", .weights = "cd", .from = "cccc", .stream = 99};
    struct place *p = place_open(&serves[GATEWAY], ids[NODE], &spec, &events, NULL, e);
    gen_request_free(&gen);
    return p;
}

static void expect(struct buf *what, const char *wanted) {
    assert_string_equal(buf_str(what), wanted);
    buf_clear(what);
}

#define OPENED "open m [5,6,7] hold 1 ab cd cccc 99; "

static struct place *open_well(void) {
    struct err e;
    struct place *p = open_place(&e);
    assert_non_null(p);
    carry();
    expect(&done, OPENED);
    return p;
}

static struct place *open_well_beside(void) {
    struct err e;
    struct place *p = open_place(&e);
    assert_non_null(p);
    carry();
    return p;
}

static struct site *site_there(void) { return &sites[opened_sites - 1]; }

static int setup(void **state) {
    (void)state;
    memset(serves, 0, sizeof serves);
    for (int i = 0; i < NODES; i++) {
        TAILQ_INIT(&serves[i].sites);
        TAILQ_INIT(&serves[i].remotes);
        TAILQ_INIT(&serves[i].ordered);
        serves[i].settings.parallel = 8;
    }
    buf_init(&done, 1 << 20);
    buf_init(&told, 1 << 20);
    queued = opened_sites = 0;
    is_down = false;
    unsaid = 0;
    link_cut[0] = '\0';
    refusal.code = ERR_NONE;
    return 0;
}

// Whatever a test has done: nothing stays open on the node once its link is gone.
static int teardown(void **state) {
    (void)state;
    carry();
    orders_lost(&serves[NODE], NULL);
    for (int i = 0; i < opened_sites; i++) assert_false(sites[i].open);
    assert_true(TAILQ_EMPTY(&serves[NODE].ordered) && TAILQ_EMPTY(&serves[GATEWAY].remotes));
    buf_free(&done);
    buf_free(&told);
    return 0;
}

// ---------------------------------------------------------------- tests
static void test_a_whole_life(void **state) {
    (void)state;
    struct err e;
    const int32_t tokens[] = {5, 6, 7}, generated[] = {11, 12};
    struct place *p = open_well();
    const struct place_events *ev = &site_there()->place.ev;
    void *arg = site_there()->place.arg;
    struct place_opened o = {{3, 1, 0, NULL, tokens}, "ab", "cd", 4, "m3-ultra:2", true};
    struct place_target to = {"cccc", 1234567890123456789u, 3, 4, "f16"};
    ev->opened(arg, &o);
    json_t *ticket = json_pack("{s:s}", "body", "x");
    assert_int_equal(place_permit(p, ticket, &e), 0);
    json_decref(ticket);
    assert_int_equal(place_stream(p, &to, &e), 0);
    assert_int_equal(place_start(p, generated, 2, 64, &e), 0);
    ev->text(arg, "\xc3\xa4", 2, 1, 9);
    uint64_t before = clock_mono_ns(), came = before - 5000000;
    ev->installed(arg, 64, 1ull << 40, came, "q8_0");
    carry();
    uint64_t passed = clock_mono_ns() - before;
    assert_true(told_ns >= came && told_ns - came <= passed + 1000); // by the gateway's clock, in microseconds
    expect(&told, "opened 3 cached 1 credits 4 whole 1 ab cd m3-ultra:2 5 6 7; text \xc3\xa4 1 9; "
                  "installed 64 1099511627776 q8_0; ");
    expect(&done, "stream cccc 1234567890123456789 3 4 f16; start 11 12 from 64; ");
    assert_true(renewed);
    assert_int_equal(place_pause(p, &e), 0);
    place_cut(p);
    ev->paused(arg, 1, 66);
    err_set(&e, ERR_UNREACHABLE, "gone");
    ev->cut(arg, false, &e);
    ev->cut(arg, true, &e);
    carry();
    expect(&told, "paused 1 66; cut unreachable; starved unreachable; ");
    assert_int_equal(place_start(p, NULL, 0, -1, &e), 0);
    ev->ended(arg, &(struct gen_result){.finish = FINISH_LENGTH, .completion_tokens = 8});
    carry(); // the node has dropped it: the last order finds nothing
    expect(&told, "ended length 8; ");
    expect(&done, "pause; cut; drop; ");
    assert_int_equal(place_start(p, NULL, 0, -1, &e), -1);
    assert_int_equal(e.code, ERR_CANCELLED);
    place_drop(p);
    assert_int_equal(queued, 0);
}

static void test_dropped_by_the_gateway(void **state) {
    (void)state;
    struct place *p = open_well();
    site_there()->place.ev.text(site_there()->place.arg, "late", 4, 1, 9);
    place_drop(p);
    carry();
    expect(&done, "drop; ");
    expect(&told, "");
}

static void test_an_open_that_is_refused(void **state) {
    (void)state;
    struct err e;
    err_set(&refusal, ERR_NOT_FOUND, "no such model");
    struct place *p = open_place(&e);
    assert_non_null(p);
    carry();
    expect(&told, "failed not_found; ");
    place_drop(p);
    is_down = true;
    assert_null(open_place(&e));
    assert_int_equal(e.code, ERR_UNREACHABLE);
}

static void test_an_order_that_fails(void **state) {
    (void)state;
    struct err e;
    struct place *p = open_well();
    struct place_target to = {"cccc", 1, 0, 4, "morse"};
    assert_int_equal(place_stream(p, &to, &e), 0);
    carry();
    expect(&done, "stream cccc 1 0 4 morse; drop; ");
    expect(&told, "failed invalid; ");
    place_drop(p);
}

static void test_a_link_that_is_lost(void **state) {
    (void)state;
    struct err e;
    struct peer gateway = {.up = false}, node = {.up = false};
    snprintf(gateway.id, sizeof gateway.id, "%s", ids[GATEWAY]);
    snprintf(node.id, sizeof node.id, "%s", ids[NODE]);
    struct place *one = open_well(), *two = open_well();
    is_down = true;
    place_cut(two); // notices it first, and is told all the same
    err_set(&e, ERR_UNREACHABLE, "down");
    remote_lost(&serves[GATEWAY], &node, &e);
    orders_lost(&serves[NODE], &gateway);
    expect(&told, "failed unreachable; failed unreachable; ");
    expect(&done, "drop; drop; ");
    place_drop(one);
    place_drop(two);
}

static void say_token(void) { site_there()->place.ev.text(site_there()->place.arg, "x", 1, 1, 9); }

// Nobody waits for a word that could not be said.
static void test_words_that_cannot_be_said(void **state) {
    (void)state;
    struct place *p = open_well();
    unsaid = 1;
    say_token();
    expect(&done, "drop; ");
    carry();
    expect(&told, "failed limit; ");
    place_drop(p);

    p = open_well();
    unsaid = 1;
    site_there()->place.ev.ended(site_there()->place.arg, &(struct gen_result){.finish = FINISH_STOP});
    carry();
    expect(&told, "failed limit; ");
    expect(&done, "drop; ");
    place_drop(p);
    assert_string_equal(link_cut, "");

    p = open_well();
    unsaid = 2; // not even that it failed
    say_token();
    expect(&done, "drop; ");
    assert_string_equal(link_cut, "aaaa");
    place_drop(p);
}

static void test_an_order_that_cannot_be_sent(void **state) {
    (void)state;
    struct place *p = open_well();
    unsaid = 1;
    place_drop(p); // it would stay open there
    assert_string_equal(link_cut, "bbbb");
}

static void test_hostile_orders(void **state) {
    (void)state;
    static const char *const nonsense[] = {
        "\"site.start\",\"generated\":[-1]", "\"site.start\",\"generated\":{}", "\"site.start\",\"from\":-2",
        "\"site.stream\",\"credits\":-1",    "\"site.stream\",\"to\":5",        "\"site.stream\",\"stream\":-1",
    };
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        char text[256];
        struct place *p = open_well();
        snprintf(text, sizeof text, "{\"n\":%zu,\"t\":%s}", i + 1, nonsense[i]);
        say(GATEWAY, NODE, text);
        carry();
        expect(&done, "drop; ");
        expect(&told, "failed invalid; ");
        place_drop(p);
    }
    static const char *const unknown[] = {"{\"t\":\"site.start\"}",
                                          "{\"t\":\"site.drop\",\"n\":\"1\"}",
                                          "{\"t\":\"site.pause\",\"n\":-1}",
                                          "{\"t\":\"site.cut\",\"n\":1e9}",
                                          "{\"t\":\"site.credit\",\"stream\":5,\"units\":5000}",
                                          "{\"t\":\"site.credit\"}"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) say(GATEWAY, NODE, unknown[i]);
    say(GATEWAY, NODE, "{\"t\":\"site.credit\",\"stream\":5,\"units\":2}");
    carry();
    say(STRANGER, NODE, "{\"t\":\"site.credit\",\"stream\":5,\"units\":2}");
    carry();
    expect(&done, "credit of aaaa 5 2; credit of cccc 5 2; "); // who sends to whom is the site's business
}

static void test_opens_that_make_no_sense(void **state) {
    (void)state;
    static const char *const nonsense[] = {
        "{\"t\":\"site.open\",\"n\":1,\"model\":\"m\"}",
        "{\"t\":\"site.open\",\"n\":1,\"model\":7,\"gen\":{\"id\":1,\"kind\":0,\"prompt\":\"x\"}}",
        "{\"t\":\"site.open\",\"n\":1,\"gen\":{\"id\":1,\"kind\":3,\"prompt\":\"x\"}}",
        "{\"t\":\"site.open\",\"n\":1,\"gen\":{\"id\":1,\"kind\":0,\"prompt\":\"x\"},\"stream\":-5}",
    };
    int n = (int)(sizeof nonsense / sizeof *nonsense);
    for (int i = 0; i < n; i++) say(STRANGER, NODE, nonsense[i]);
    for (int i = 0; i < n; i++) deliver(&queue[i]);
    assert_int_equal(queued, 2 * n); // each is answered
    for (int i = n; i < 2 * n; i++) {
        assert_non_null(strstr(queue[i].text, "\"site.failed\""));
        assert_non_null(strstr(queue[i].text, "\"invalid\""));
        deliver(&queue[i]);
    }
    queued = 0;
    expect(&done, "");
}

// Members may do as they like with their own places only.
static void test_places_of_others(void **state) {
    (void)state;
    struct place *p = open_well();
    say(STRANGER, NODE, "{\"t\":\"site.drop\",\"n\":1}");
    say(STRANGER, NODE, "{\"t\":\"site.pause\",\"n\":1}");
    say(STRANGER, GATEWAY, "{\"t\":\"site.text\",\"n\":1,\"text\":\"lie\",\"tokens\":1,\"token\":1}");
    say(STRANGER, GATEWAY, "{\"t\":\"site.failed\",\"n\":1,\"error\":{\"code\":\"worker\"}}");
    carry();
    expect(&done, "");
    expect(&told, "");
    place_drop(p);
}

static void test_a_node_that_lies(void **state) {
    (void)state;
    static const char *const lies[] = {
        "\"site.opened\",\"prompt_tokens\":3,\"tokens\":[1,2]",
        "\"site.opened\",\"prompt_tokens\":3,\"cached\":4",
        "\"site.opened\",\"prompt_tokens\":-3",
        "\"site.opened\",\"credits\":1000000",
        "\"site.text\",\"tokens\":1",
        "\"site.text\",\"text\":\"x\",\"tokens\":-1",
        "\"site.installed\",\"upto\":4294967296",
        "\"site.installed\",\"upto\":1,\"wire\":\"f8\"",
        "\"site.installed\",\"upto\":1,\"age_us\":-1",
        "\"site.paused\",\"past\":\"x\"",
        "\"site.ended\",\"result\":{\"finish\":9}",
        "\"site.ended\"",
        "\"site.failed\",\"error\":{\"code\":5}",
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        char text[256];
        struct place *p = open_well();
        snprintf(text, sizeof text, "{\"n\":%zu,\"t\":%s}", i + 1, lies[i]);
        say(NODE, GATEWAY, text);
        carry();
        say(NODE, GATEWAY, text); // it is over
        carry();
        expect(&told, "failed invalid; ");
        carry();
        expect(&done, "drop; ");
        place_drop(p);
    }
}

static void say_open(int from, int n, const char *model) {
    char text[256];
    snprintf(text, sizeof text,
             "{\"t\":\"site.open\",\"n\":%d,\"model\":\"%s\",\"gen\":{\"id\":1,\"kind\":0,\"prompt\":\"x\"}}", n,
             model);
    say(from, NODE, text);
}

static void test_most_places_of_one_peer(void **state) {
    (void)state;
    serves[NODE].settings.parallel = 2 * ORDERS_MOST;
    for (int i = 0; i <= ORDERS_MOST; i++) say_open(STRANGER, i + 1, "m");
    int asked = queued;
    for (int i = 0; i < asked; i++) deliver(&queue[i]);
    assert_int_equal(opened_sites, ORDERS_MOST);
    assert_int_equal(queued, asked + 1);
    assert_non_null(strstr(queue[asked].text, "\"busy\""));
    queue[0] = queue[asked];
    queued = 1;
    say(STRANGER, NODE, "{\"t\":\"site.drop\",\"n\":3}");
    carry();
    say_open(STRANGER, 4, "m");
    carry(); // a number that is taken
    assert_int_equal(opened_sites, ORDERS_MOST);
}

// Six of eight; the other two, and the member's further orders, are for others and for later.
static void test_a_member_has_its_share(void **state) {
    const struct err none = {.code = ERR_NONE};
    struct gen_result result = {.finish = FINISH_STOP};
    (void)state;
    for (int i = 1; i <= 6; i++) say_open(STRANGER, i, i % 2 ? "m" : ""); // two names of one model
    say_open(STRANGER, 7, "m");
    say_open(STRANGER, 8, "m");
    say_open(STRANGER, 9, "other");
    carry();
    assert_int_equal(opened_sites, 7);
    place_drop(open_well_beside()); // another member is not kept out
    carry();
    assert_int_equal(opened_sites, 8);
    say(STRANGER, NODE, "{\"t\":\"site.drop\",\"n\":7}"); // it waited for its turn
    say(STRANGER, NODE, "{\"t\":\"site.drop\",\"n\":2}");
    carry();
    assert_int_equal(opened_sites, 9); // number 8
    assert_true(sites[8].open && !sites[1].open);
    say_open(STRANGER, 10, "m");
    say_open(STRANGER, 11, "m");
    carry();
    assert_int_equal(opened_sites, 9);
    sites[0].place.ev.ended(sites[0].place.arg, &result);
    settle();
    assert_int_equal(opened_sites, 10); // number 10
    struct err why = none;
    err_set(&why, ERR_INTERNAL, "it died");
    refusal = why; // also one that cannot be opened makes room
    sites[2].place.ev.failed(sites[2].place.arg, &why);
    settle();
    assert_int_equal(opened_sites, 10);
    refusal.code = ERR_NONE;
    say_open(STRANGER, 12, "m");
    carry();
    assert_int_equal(opened_sites, 11);
}

static void test_what_waits_is_bounded_and_takes_no_orders(void **state) {
    (void)state;
    serves[NODE].settings.parallel = 1; // which leaves nothing to share
    for (int i = 1; i <= 1 + ORDERS_WAITING + 1; i++) say_open(STRANGER, i, "m");
    carry();
    assert_int_equal(opened_sites, 1);
    buf_clear(&done);
    say(STRANGER, NODE, "{\"t\":\"site.pause\",\"n\":2}");
    say(STRANGER, NODE, "{\"t\":\"site.start\",\"n\":3,\"generated\":[],\"from\":-1}");
    carry();
    expect(&done, "");
    say_open(STRANGER, 100, "m"); // in the place of those two, which have failed
    say_open(STRANGER, 101, "m");
    int asked = queued;
    for (int i = 0; i < asked; i++) deliver(&queue[i]);
    assert_int_equal(queued, asked);
    queued = 0;
    say_open(STRANGER, 102, "m");
    deliver(&queue[0]);
    assert_non_null(strstr(queue[1].text, "share"));
    queue[0] = queue[1];
    queued = 1;
    carry();
    struct peer p = {.up = false};
    snprintf(p.id, sizeof p.id, "%s", ids[STRANGER]);
    orders_lost(&serves[NODE], &p);
    assert_true(TAILQ_EMPTY(&serves[NODE].ordered));
    assert_int_equal(opened_sites, 1);
}

// An order of that size, by a member; whether it is refused.
static bool is_refused(const char *by, int n, size_t size) {
    struct peer p = {.up = true};
    char *prompt = malloc(size + 1);
    assert_non_null(prompt);
    memset(prompt, 'x', size);
    prompt[size] = '\0';
    json_t *msg = json_pack("{s:s, s:i, s:s, s:{s:i, s:i, s:s}}", "t", "site.open", "n", n, "model", "m", "gen", "id",
                            1, "kind", 0, "prompt", prompt);
    snprintf(p.id, sizeof p.id, "%s", by);
    int before = queued;
    assert_true(orders_heard(&serves[NODE], &p, "site.open", msg));
    settle();
    json_decref(msg);
    free(prompt);
    if (queued == before) return false;
    queued = before;
    bool busy = strstr(queue[queued].text, "\"busy\"") && strstr(queue[queued].text, "wait already: try again later");
    free(queue[queued].text);
    assert_true(busy);
    return true;
}

static void test_what_waits_is_bounded_in_bytes(void **state) {
    enum { BIG = 4 << 20, EACH = LIMIT_ORDERS_BYTES_EACH / BIG - 1, ALL = LIMIT_ORDERS_BYTES / BIG - 1 };
    (void)state;
    serves[NODE].settings.parallel = 1;
    assert_false(is_refused(ids[STRANGER], 1, BIG)); // is open, and does not count any more
    for (int i = 0; i < EACH; i++) assert_false(is_refused(ids[STRANGER], 2 + i, BIG));
    assert_true(is_refused(ids[STRANGER], 100, BIG));
    assert_false(is_refused(ids[STRANGER], 101, 100));                                   // a small one still has room
    static const char *const names[] = {"aaaa", "dddd", "eeee", "ffff", "gggg", "hhhh"}; // only the first two are heard
    int waiting = EACH;
    for (size_t i = 1; i < sizeof names / sizeof *names; i++) assert_false(is_refused(names[i], 1, 100)); // open
    for (size_t i = 1; i < sizeof names / sizeof *names; i++)
        for (int n = 0; n < EACH && waiting < ALL; n++, waiting++) assert_false(is_refused(names[i], 2 + n, BIG));
    assert_false(is_refused(names[0], 1, 100));
    assert_true(is_refused(names[0], 2, BIG)); // others' orders fill the node
    say(STRANGER, NODE, "{\"t\":\"site.drop\",\"n\":3}");
    carry();
    assert_false(is_refused(names[0], 3, BIG));
    buf_clear(&done);
}

static void test_nothing_waits_for_ever(void **state) {
    (void)state;
    serves[NODE].settings.parallel = 1;
    uint64_t limit = LIMIT_ORDERS_SECONDS * NS_PER_S, before = clock_mono_ns();
    for (int i = 1; i <= 3; i++) say_open(STRANGER, i, "m");
    carry();
    orders_expire(&serves[NODE], before + limit - 1);
    assert_int_equal(queued, 0);
    orders_expire(&serves[NODE], clock_mono_ns() + limit);
    assert_int_equal(queued, 2);
    for (int i = 0; i < queued; i++)
        assert_true(strstr(queue[i].text, "\"busy\"") && strstr(queue[i].text, "try again later"));
    carry();
    assert_true(opened_sites == 1 && sites[0].open); // that one does not wait
    say_open(STRANGER, 4, "m");
    say(STRANGER, NODE, "{\"t\":\"site.drop\",\"n\":1}");
    carry();
    assert_int_equal(opened_sites, 2);
}

static void is_shown(const char *expected) {
    json_t *list = orders_json(&serves[NODE]);
    char *text = json_dumps(list, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, expected);
    free(text);
    json_decref(list);
}

static void test_what_is_open_is_shown(void **state) {
    struct err e;
    (void)state;
    is_shown("[]");
    struct place *p = open_place(&e);
    carry();
    is_shown("[{\"completion_tokens\":1,\"gateway\":\"node aaaa\",\"model\":\"m\",\"phase\":\"decode\","
             "\"prompt_tokens\":3}]");
    place_drop(p);
    carry();
    is_shown("[]");
}

// What cannot be recorded is not computed.
static void test_audit_log_fails(void **state) {
    struct err e;
    (void)state;
    err_set(&no_log, ERR_AUDIT, "the disk is full");
    struct place *p = open_place(&e);
    assert_non_null(p);
    carry();
    expect(&done, "");
    expect(&told, "failed audit_unavailable; ");
    no_log.code = ERR_NONE;
    place_drop(p);
    carry();
    assert_int_equal(unanswered, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_whole_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dropped_by_the_gateway, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_open_that_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_order_that_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_link_that_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_words_that_cannot_be_said, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_order_that_cannot_be_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_orders, setup, teardown),
        cmocka_unit_test_setup_teardown(test_opens_that_make_no_sense, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places_of_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_node_that_lies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_open_is_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_member_has_its_share, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_waits_is_bounded_and_takes_no_orders, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_waits_is_bounded_in_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_waits_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(test_most_places_of_one_peer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_audit_log_fails, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
