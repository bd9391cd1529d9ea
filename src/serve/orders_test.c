// What a node does not do for a gateway, whatever that says: orders.c with the real tickets, warrants and policies, and
// with tickets that are made by hand. A gateway that lies has the right key, and another policy than this node.
#include "base/buf.h"
#include "base/json.h"
#include "serve/authority.h"
#include "serve/evidence.h"
#include "serve/node.h"
#include "serve/orders.h"
#include "serve/place_ops.h"
#include "serve/site.h"
#include "serve/sitemsg.h"
#include "serve/tickets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { GATEWAY, NODE, OTHER, MEMBERS };

// Everything but private rows, and but the night shift's answers here.
static const char own_rules[] =
    "{\"v\":1,\"rules\":["
    "{\"id\":\"all\",\"effect\":\"permit\"},"
    "{\"id\":\"stay\",\"effect\":\"forbid\",\"phases\":[\"kv\"],\"labels\":[\"private\"],\"dst\":[\"!@home\"]},"
    "{\"id\":\"night\",\"effect\":\"forbid\",\"phases\":[\"decode\"],\"agents\":[\"night\"],\"nodes\":[\"node1\"]},"
    "{\"id\":\"deaf\",\"effect\":\"forbid\",\"phases\":[\"prefill\"],\"agents\":[\"deaf\"],\"nodes\":[\"node1\"]}]}";

static EVP_PKEY *keys[MEMBERS];
static struct roster *roster;
static struct serve s;
static struct paths paths;
static uint64_t number; // of the latest order

// ---------------------------------------------------------------- the node
const struct roster *cluster_roster(const struct cluster *c) {
    (void)c;
    return roster;
}
const char *cluster_own_name(const struct cluster *c) {
    (void)c;
    return "node1";
}
EVP_PKEY *cluster_signer(const struct cluster *c) {
    (void)c;
    return keys[NODE];
}
const char *cluster_session(const struct cluster *c, const char *id) {
    (void)c, (void)id;
    return "";
}
const char *node_self(const struct serve *serve) {
    (void)serve;
    return roster->nodes[NODE].id;
}
bool node_is_self(const struct serve *serve, const char *id) { return !strcmp(id, node_self(serve)); }
void node_name(const struct serve *serve, const char *id, char *out, size_t size) {
    (void)serve;
    const struct roster_node *n = roster_find(roster, id);
    snprintf(out, size, "%s", n ? n->name : "nobody");
}
void node_cut(const struct serve *serve, const char *id, const struct err *why) {
    (void)serve;
    fail_msg("the link to %s is cut: %s", id, why->msg);
}

static json_t *answer; // what the gateway was told last
int node_send(const struct serve *serve, const char *id, const json_t *msg, struct err *e) {
    (void)serve, (void)e;
    assert_string_equal(id, roster->nodes[GATEWAY].id);
    json_decref(answer);
    answer = json_deep_copy(msg);
    return 0;
}

static struct model model = {.name = "m"};
static char loaded[65]; // weights
struct model *models_find(const struct models *m, const char *name) {
    (void)m;
    return strcmp(name, model.name) ? NULL : &model;
}
struct model *models_next(const struct models *m, const struct model *after) {
    (void)m;
    return after ? NULL : &model;
}
void engine_get_status(const struct engine *e, struct engine_status *out) {
    (void)e;
    *out = (struct engine_status){.state = ENGINE_READY};
    memcpy(out->info.weights, loaded, sizeof loaded);
}

// ---------------------------------------------------------------- the audit log
struct record {
    evidence_begun *begun;
    void *arg;
};
static struct record record;
static char intent_ticket[TICKET_ID], intent_agent[64], finish[16];
static json_t *denied, *outcome;

void evidence_changed(const struct serve *serve) { (void)serve; }
struct record *evidence_begin(struct serve *serve, const struct evidence_intent *i, evidence_begun *begun, void *arg,
                              struct err *e) {
    (void)serve, (void)e;
    record = (struct record){begun, arg};
    snprintf(intent_ticket, sizeof intent_ticket, "%s", i->ticket);
    snprintf(intent_agent, sizeof intent_agent, "%s", i->agent);
    return &record;
}
void evidence_note(struct record *r, enum entry_type type, json_t *facts) {
    assert_ptr_equal(r, &record);
    assert_int_equal(type, ENTRY_DENY);
    json_decref(denied);
    denied = facts;
}
void evidence_deny(const struct serve *serve, json_t *facts) {
    (void)serve;
    json_decref(denied);
    denied = facts;
}
void evidence_end(struct record *r, const char *how, const struct err *why, json_t *facts) {
    (void)why;
    assert_true(!r || r == &record);
    record.begun = NULL;
    snprintf(finish, sizeof finish, "%s", how);
    json_decref(outcome);
    outcome = facts;
}
json_t *evidence_decision(const struct serve *serve, const struct policy_decision *d) {
    json_t *o = policy_decision_json(authority_policy(serve), d);
    json_object_set_new(o, "decision", json_string(d->allow ? "permit" : "deny"));
    return o;
}

// ---------------------------------------------------------------- what it would compute
static struct site { struct place place; } site;
static struct buf done;
static char from[NODE_ID];

static int fake_start(struct place *p, const int32_t *generated, int32_t n, int32_t upto, struct err *e) {
    (void)p, (void)generated, (void)n, (void)upto, (void)e;
    return buf_puts(&done, "start ");
}
static int fake_stream(struct place *p, const struct place_target *to, struct err *e) {
    (void)p, (void)to, (void)e;
    return buf_puts(&done, "stream ");
}
static int fake_pause(struct place *p, struct err *e) {
    (void)p, (void)e;
    return buf_puts(&done, "pause ");
}
static void fake_cut(struct place *p) { (void)p; }
static void fake_drop(struct place *p) {
    (void)p;
    assert_int_equal(buf_puts(&done, "drop "), 0);
}
struct place *site_open(struct serve *serve, const struct place_spec *spec, const struct place_events *ev, void *arg,
                        struct err *e) {
    static const struct place_ops ops = {fake_start, fake_stream, fake_pause, fake_cut, fake_drop, NULL, NULL};
    (void)serve, (void)e;
    site = (struct site){{&ops, *ev, arg}};
    snprintf(from, sizeof from, "%s", spec->from);
    assert_int_equal(buf_puts(&done, "open "), 0);
    return &site.place;
}
void site_look(const struct place *p, struct site_view *out) {
    (void)p;
    *out = (struct site_view){"m", "decode", 0, 0};
}
void site_credit(struct serve *serve, const char *node, uint64_t stream, int32_t units) {
    (void)serve, (void)node, (void)stream, (void)units;
}

// ---------------------------------------------------------------- the world
static struct roster_node member(int i) {
    struct roster_node n = {.role = "auto"};
    memset(n.pin, i + 1, sizeof n.pin);
    identity_id_of(n.pin, n.id);
    snprintf(n.name, sizeof n.name, "node%d", i);
    assert_int_equal(key_public(keys[i], n.audit), 0);
    return n;
}

static int setup(void **state) {
    struct err e = {.code = ERR_NONE};
    (void)state;
    memset(&s, 0, sizeof s);
    TAILQ_INIT(&s.ordered);
    TAILQ_INIT(&s.sites);
    TAILQ_INIT(&s.remotes);
    s.settings.parallel = 4;
    snprintf(paths.state, sizeof paths.state, "/tmp/nebulus-orders-XXXXXX");
    assert_non_null(mkdtemp(paths.state));
    assert_non_null(roster = calloc(1, sizeof *roster));
    snprintf(roster->cluster, sizeof roster->cluster, "home");
    roster->epoch = 7;
    for (int i = 0; i < MEMBERS; i++) {
        assert_non_null(keys[i] = key_new(&e));
        struct roster_node n = member(i);
        assert_int_equal(roster_add(roster, &n, &e), 0);
    }
    roster->policy = policy_read(own_rules, sizeof own_rules - 1, &e);
    s.authority = authority_new(&paths, &e);
    s.tickets = tickets_new(&e);
    if (!roster->policy || !s.authority || !s.tickets) fail_msg("%s", e.msg);
    buf_init(&done, 1 << 16);
    memset(loaded, 'c', 64);
    number = 0;
    return 0;
}

static void forget(json_t **o) {
    json_decref(*o);
    *o = NULL;
}

static int teardown(void **state) {
    (void)state;
    orders_lost(&s, NULL);
    assert_true(TAILQ_EMPTY(&s.ordered));
    forget(&answer);
    forget(&denied);
    forget(&outcome);
    buf_free(&done);
    tickets_free(s.tickets);
    authority_free(s.authority);
    roster_free(roster);
    for (int i = 0; i < MEMBERS; i++) EVP_PKEY_free(keys[i]);
    return rmdir(paths.state);
}

// ---------------------------------------------------------------- the gateway's words
static struct policy_agent agent;
static struct policy_subject asker;

// Another node reads, this one writes; unless the test says otherwise.
static struct ticket ticket_of(const char *who, const char *label) {
    static const char *labels[1];
    struct ticket t = {
        .cluster = "home", .req_id = "cmpl-1", .epoch = 7, .model = "m", .writes_on = true, .tokens = -1};
    labels[0] = label;
    agent = (struct policy_agent){.id = who, .groups = {labels, 0}};
    asker = (struct policy_subject){.lineage = &agent, .n = 1, .labels = {labels, label ? 1 : 0}};
    t.who = &asker;
    memcpy(t.policy, policy_digest(roster->policy), sizeof t.policy);
    memcpy(t.gateway, roster->nodes[GATEWAY].id, sizeof t.gateway);
    memcpy(t.weights, loaded, sizeof t.weights);
    return t;
}

static void name_ends(struct ticket *t, int prefill, int decode) {
    const int ends[] = {prefill, decode};
    for (int i = 0; i < 2; i++) {
        struct ticket_end *end = i ? &t->decode : &t->prefill;
        memcpy(end->node, roster->nodes[ends[i]].id, sizeof end->node);
        snprintf(end->session, sizeof end->session, "%s", tickets_session(s.tickets));
    }
}

static json_t *sign(struct ticket *t) {
    struct err e = {.code = ERR_NONE};
    json_t *document = ticket_sign(t, keys[GATEWAY], (int64_t)time(NULL) * 1000, &e);
    if (!document) fail_msg("%s", e.msg);
    return document;
}

static void durable(void) {
    evidence_begun *begun = record.begun;
    record.begun = NULL;
    if (begun) begun(record.arg, NULL);
}

// Takes msg over. What is recorded is durable then, or where the disk is slow, after the next one.
static bool slow;
static void say(json_t *msg) {
    struct peer p = {.up = true};
    memcpy(p.id, roster->nodes[GATEWAY].id, sizeof p.id);
    forget(&answer);
    forget(&denied);
    if (!json_object_get(msg, "n")) json_object_set_new(msg, "n", json_integer((json_int_t)number));
    assert_true(orders_heard(&s, &p, json_string_value(json_object_get(msg, "t")), msg));
    json_decref(msg);
    if (!slow) durable();
}

struct wish {
    const char *model, *weights;
    int from; // MEMBERS: nobody
    bool goes_on;
    int64_t most;
};
#define WRITER ((struct wish){"m", "", OTHER, false, 10})
#define READER ((struct wish){"m", "", MEMBERS, false, 10})

// Takes the ticket over; NULL: without.
static void order_open(json_t *ticket, struct wish w) {
    struct gen_request gen;
    gen_request_init(&gen);
    gen.kind = PROMPT_TOKENS;
    gen.prompt = json_pack("[i,i,i]", 5, 6, 7);
    gen.hold = !w.goes_on;
    gen.max_tokens = w.most;
    const struct place_spec spec = {.model = w.model,
                                    .gen = &gen,
                                    .contract = "",
                                    .weights = w.weights,
                                    .from = w.from < MEMBERS ? roster->nodes[w.from].id : "",
                                    .stream = 9,
                                    .ticket = ticket};
    buf_clear(&done);
    json_t *msg = sitemsg_write_open(++number, &spec);
    json_object_set_new(msg, "n", json_integer((json_int_t)number));
    say(msg);
    json_decref(ticket);
    gen_request_free(&gen);
}

static void tell_opened(int32_t cached) {
    const struct place_opened o = {
        .begin = {.prompt_tokens = 100, .cached_tokens = cached}, .contract = "", .weights = loaded, .emulated = ""};
    site.place.ev.opened(site.place.arg, &o);
}

// ---------------------------------------------------------------- what has come of it
static const char *text_at(const json_t *o, const char *name) {
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

static void expect_done(const char *what) {
    assert_string_equal(buf_str(&done), what);
    buf_clear(&done);
}

// The gateway hears of it, it is recorded, and nothing was computed.
static void expect_refused(const char *reason) {
    const json_t *error = json_object_get(answer, "error");
    assert_string_equal(text_at(answer, "t"), "site.failed");
    assert_string_equal(text_at(denied, "reason"), reason);
    assert_string_equal(text_at(denied, "decision"), "deny");
    assert_string_equal(text_at(denied, "gateway"), roster->nodes[GATEWAY].id);
    if (!strcmp(reason, "policy"))
        assert_string_equal(text_at(error, "code"), "denied");
    else
        assert_string_equal(text_at(error, "param"), reason);
    assert_null(strstr(buf_str(&done), "open"));
    assert_null(strstr(buf_str(&done), "start"));
    assert_null(strstr(buf_str(&done), "stream"));
    assert_true(TAILQ_EMPTY(&s.ordered));
}

static void drop(void) {
    say(json_pack("{s:s}", "t", "site.drop"));
    buf_clear(&done);
}

static void expect_open(void) {
    if (answer) fail_msg("it is refused: %s", text_at(json_object_get(answer, "error"), "msg"));
    expect_done("open ");
}

// ---------------------------------------------------------------- tests
static void test_a_good_one(void **state) {
    (void)state;
    struct ticket t = ticket_of("ann", "private");
    name_ends(&t, NODE, NODE);
    order_open(sign(&t), (struct wish){"m", loaded, MEMBERS, true, 10});
    expect_open();
    assert_string_equal(intent_ticket, t.nonce);
    assert_string_equal(intent_agent, "ann");
    tell_opened(0);
    drop();
    assert_string_equal(finish, "dropped");
    assert_string_equal(text_at(outcome, "decision"), "permit");
    t = ticket_of("ann", NULL);
    name_ends(&t, OTHER, NODE);
    order_open(sign(&t), WRITER);
    expect_open();
    assert_string_equal(from, roster->nodes[OTHER].id);
}

static void test_none_or_nonsense(void **state) {
    (void)state;
    order_open(NULL, READER);
    expect_refused("ticket_missing");
    order_open(json_pack("{s:s, s:s}", "body", "{}", "sig", "00"), READER);
    expect_refused("ticket_signature");
    struct ticket t = ticket_of("ann", NULL);
    name_ends(&t, NODE, NODE);
    struct err e;
    order_open(ticket_sign(&t, keys[OTHER], (int64_t)time(NULL) * 1000, &e), READER);
    expect_refused("ticket_signature");
    assert_string_equal(text_at(denied, "req_id"), ""); // nobody vouches for it
}

static void test_replayed(void **state) {
    (void)state;
    struct err e;
    struct ticket t = ticket_of("ann", NULL);
    name_ends(&t, NODE, NODE);
    json_t *document = sign(&t);
    order_open(json_incref(document), READER);
    expect_open();
    drop();
    order_open(json_incref(document), READER);
    expect_refused("ticket_replayed");
    assert_string_equal(text_at(denied, "ticket"), t.nonce);
    assert_string_equal(text_at(denied, "agent"), "ann");
    tickets_free(s.tickets); // the daemon was started anew, and remembers nothing
    s.tickets = tickets_new(&e);
    order_open(document, READER);
    expect_refused("ticket_session");
}

static void test_out_of_date(void **state) {
    (void)state;
    struct err e;
    struct ticket t = ticket_of("ann", NULL);
    name_ends(&t, NODE, NODE);
    roster->epoch = 8;
    order_open(sign(&t), READER);
    expect_refused("ticket_epoch");
    assert_string_equal(text_at(json_object_get(answer, "error"), "code"), "unreachable"); // worth another try
    roster->epoch = 7;
    t.policy[0] ^= 1;
    order_open(sign(&t), READER);
    expect_refused("ticket_policy");
    t.policy[0] ^= 1;
    int64_t now = (int64_t)time(NULL) * 1000;
    order_open(ticket_sign(&t, keys[GATEWAY], now - TICKET_LIFE_MS - TICKET_SKEW_MS - 1000, &e), READER);
    expect_refused("ticket_expired");
    order_open(ticket_sign(&t, keys[GATEWAY], now + TICKET_SKEW_MS + 60000, &e), READER);
    expect_refused("ticket_early");
    t.epoch = 9; // a roster that this node has not heard of yet: its own policy decides
    t.policy[0] ^= 1;
    order_open(sign(&t), READER);
    expect_open();
}

// G12, where the gateway lies.
static void test_private_rows_do_not_come(void **state) {
    (void)state;
    for (int lie = 0; lie < 2; lie++) {
        struct ticket t = ticket_of("ann", "private");
        if (lie) { // there is a newer policy that permits it, it says
            t.epoch = 8;
            t.policy[0] ^= 1;
        }
        name_ends(&t, OTHER, NODE);
        order_open(sign(&t), WRITER);
        expect_refused("policy");
        assert_string_equal(finish, "denied");
        const json_t *rules = json_object_get(denied, "rules");
        assert_string_equal(json_string_value(json_array_get(rules, 0)), "stay");
    }
    struct ticket t = ticket_of("ann", "private"); // it may be read here, without the rows that others keep
    name_ends(&t, NODE, OTHER);
    order_open(sign(&t), WRITER);
    expect_open();
    assert_string_equal(from, "");
    tell_opened(0);
    // and its rows go nowhere
    say(json_pack("{s:s, s:s, s:i, s:i, s:i, s:s}", "t", "site.stream", "to", roster->nodes[OTHER].id, "stream", 4,
                  "first", 0, "credits", 4, "wire", ""));
    expect_refused("policy");
}

static void test_own_policy(void **state) {
    (void)state;
    struct ticket t = ticket_of("night", NULL);
    name_ends(&t, NODE, NODE);
    order_open(sign(&t), READER);
    expect_refused("policy");
    name_ends(&t, OTHER, NODE);
    order_open(sign(&t), WRITER);
    expect_refused("policy");
    name_ends(&t, NODE, OTHER); // writes on
    order_open(sign(&t), READER);
    expect_refused("policy");
    t = ticket_of("deaf", NULL);
    name_ends(&t, NODE, NODE);
    order_open(sign(&t), READER);
    expect_refused("policy");
    roster->epoch = 8; // the policy changes while it runs
    t = ticket_of("ann", NULL);
    t.epoch = 8;
    name_ends(&t, NODE, NODE);
    order_open(sign(&t), READER);
    expect_open();
    tell_opened(0);
    static const char nothing[] = "{\"v\":1,\"rules\":[]}";
    struct err e;
    policy_free(roster->policy);
    roster->policy = policy_read(nothing, sizeof nothing - 1, &e);
    say(json_pack("{s:s, s:[], s:i}", "t", "site.start", "generated", "from", -1));
    expect_refused("policy");
}

static void test_not_what_it_is_for(void **state) {
    (void)state;
    struct ticket t = ticket_of("ann", NULL);
    name_ends(&t, OTHER, GATEWAY);
    order_open(sign(&t), READER);
    expect_refused("ticket_node");
    name_ends(&t, OTHER, NODE);
    order_open(sign(&t), READER); // it would read the prompt
    expect_refused("ticket_node");
    order_open(sign(&t), (struct wish){"m", "", GATEWAY, false, 10}); // rows of a third one
    expect_refused("ticket_node");
    order_open(sign(&t), (struct wish){"m", "", OTHER, true, 10}); // it would not wait for rows
    expect_refused("ticket_node");
    name_ends(&t, NODE, NODE);
    order_open(sign(&t), WRITER); // rows that nobody was to send
    expect_refused("ticket_node");
    t.writes_on = false;
    name_ends(&t, NODE, OTHER);
    order_open(sign(&t), (struct wish){"m", "", MEMBERS, true, 10}); // it would write on
    expect_refused("ticket_node");
}

static void test_model_and_tokens(void **state) {
    (void)state;
    struct ticket t = ticket_of("ann", NULL);
    name_ends(&t, NODE, NODE);
    order_open(sign(&t), (struct wish){"other", "", MEMBERS, false, 10});
    expect_refused("ticket_model");
    char weights[65] = "";
    memset(weights, 'd', 64);
    order_open(sign(&t), (struct wish){"m", weights, MEMBERS, false, 10});
    expect_refused("ticket_model");
    memset(loaded, 'd', 64); // it has changed here
    order_open(sign(&t), READER);
    expect_refused("ticket_model");
    loaded[0] = '\0'; // not loaded yet
    order_open(sign(&t), READER);
    expect_open();
    memset(loaded, 'd', 64);
    tell_opened(0);
    expect_refused("ticket_model");
    t.tokens = 10;
    memcpy(t.weights, loaded, sizeof t.weights);
    order_open(sign(&t), (struct wish){"m", "", MEMBERS, false, 11});
    expect_refused("ticket_tokens");
    order_open(sign(&t), (struct wish){"m", "", MEMBERS, false, -1});
    expect_refused("ticket_tokens");
    order_open(sign(&t), READER);
    expect_open();
}

static void open_writer(struct ticket *t) {
    *t = ticket_of("ann", NULL);
    name_ends(t, OTHER, NODE);
    order_open(sign(t), WRITER);
    expect_open();
}

// The one that writes computes no prompt, however it is asked to.
static void test_a_writer_does_not_read(void **state) {
    (void)state;
    struct ticket t;
    static const int32_t from_rows[] = {-1, 0, 98};
    for (size_t i = 0; i < sizeof from_rows / sizeof *from_rows; i++) {
        open_writer(&t);
        tell_opened(0);
        say(json_pack("{s:s, s:[], s:i}", "t", "site.start", "generated", "from", (int)from_rows[i]));
        expect_refused("ticket_node");
    }
    open_writer(&t); // not before it has opened either
    say(json_pack("{s:s, s:[], s:i}", "t", "site.start", "generated", "from", 99));
    assert_string_equal(text_at(answer, "t"), "site.failed");
    expect_done("drop ");
    open_writer(&t);
    tell_opened(0);
    say(json_pack("{s:s, s:[], s:i}", "t", "site.start", "generated", "from", 99)); // the last row is computed anew
    expect_done("start ");
    drop();
    open_writer(&t);
    tell_opened(40);
    site.place.ev.installed(site.place.arg, 99, 1, 0, "f16");
    say(json_pack("{s:s, s:[], s:i}", "t", "site.start", "generated", "from", -1)); // they are there
    expect_done("start ");
}

static void order_ticket(struct ticket *t) {
    json_t *document = sign(t);
    say(json_pack("{s:s, s:o}", "t", "site.ticket", "ticket", document));
}

static void test_another_ticket(void **state) {
    (void)state;
    struct ticket t;
    open_writer(&t);
    tell_opened(0);
    name_ends(&t, NODE, NODE);
    order_ticket(&t);
    assert_null(answer);
    say(json_pack("{s:s, s:[], s:i}", "t", "site.start", "generated", "from", -1));
    expect_done("start ");
    name_ends(&t, NODE, OTHER);
    order_ticket(&t);
    say(json_pack("{s:s, s:s, s:i, s:i, s:i, s:s}", "t", "site.stream", "to", roster->nodes[OTHER].id, "stream", 4,
                  "first", 0, "credits", 4, "wire", ""));
    expect_done("stream ");
    snprintf(t.req_id, sizeof t.req_id, "cmpl-2");
    order_ticket(&t);
    expect_refused("ticket_request");
    open_writer(&t);
    t = ticket_of("bob", NULL);
    name_ends(&t, OTHER, NODE);
    tell_opened(0);
    order_ticket(&t);
    expect_refused("ticket_request");
    open_writer(&t);
    tell_opened(0);
    say(json_pack("{s:s}", "t", "site.ticket"));
    expect_refused("ticket_missing");
    open_writer(&t); // to a third one
    tell_opened(0);
    say(json_pack("{s:s, s:s, s:i, s:i, s:i, s:s}", "t", "site.stream", "to", roster->nodes[GATEWAY].id, "stream", 4,
                  "first", 0, "credits", 4, "wire", ""));
    expect_refused("ticket_node");
}

// A node that may only read stops after its first token by itself, and its gateway hears of that when it asks for it.
static void test_who_only_reads_stops(void **state) {
    (void)state;
    for (int early = 0; early < 2; early++) {
        struct ticket t = ticket_of("night", NULL);
        t.writes_on = false;
        name_ends(&t, NODE, OTHER);
        order_open(sign(&t), READER);
        expect_open();
        tell_opened(0);
        say(json_pack("{s:s, s:[], s:i}", "t", "site.start", "generated", "from", -1));
        expect_done("start ");
        site.place.ev.text(site.place.arg, "x", 1, 1, 4);
        assert_string_equal(text_at(answer, "t"), "site.text");
        site.place.ev.text(site.place.arg, "y", 1, 2, 4);
        expect_done("pause ");
        forget(&answer);
        if (early) say(json_pack("{s:s}", "t", "site.pause"));
        site.place.ev.paused(site.place.arg, 2, 101);
        if (!early) {
            assert_null(answer);
            say(json_pack("{s:s}", "t", "site.pause"));
        }
        assert_string_equal(text_at(answer, "t"), "site.paused");
        expect_done("");
        say(json_pack("{s:s, s:[], s:i}", "t", "site.start", "generated", "from", -1)); // for another one
        expect_refused("ticket_node");
    }
}

// An order that is refused once it is recorded gives its share to the next one.
static void test_the_next_one_s_turn(void **state) {
    (void)state;
    struct ticket t = ticket_of("ann", "private");
    name_ends(&t, OTHER, NODE);
    s.settings.parallel = 1;
    slow = true;
    order_open(sign(&t), WRITER);
    slow = false;
    t = ticket_of("ann", NULL);
    name_ends(&t, OTHER, NODE);
    order_open(sign(&t), WRITER); // it waits, and is recorded when the first one is refused
    assert_string_equal(text_at(denied, "reason"), "policy");
    assert_non_null(record.begun);
    forget(&answer);
    durable();
    expect_open();
}

// A ticket that allows more comes while it reads: what runs stops all the same, and another start asks this node's
// policy.
static void test_a_later_ticket_widens_nothing(void **state) {
    (void)state;
    struct ticket t = ticket_of("night", NULL);
    t.writes_on = false;
    name_ends(&t, NODE, OTHER);
    order_open(sign(&t), READER);
    expect_open();
    tell_opened(0);
    say(json_pack("{s:s, s:[], s:i}", "t", "site.start", "generated", "from", -1));
    expect_done("start ");
    t.writes_on = true;
    order_ticket(&t);
    site.place.ev.text(site.place.arg, "x", 1, 1, 4);
    assert_string_equal(text_at(answer, "t"), "site.text");
    site.place.ev.text(site.place.arg, "y", 1, 2, 4);
    expect_done("pause ");
    forget(&answer);
    site.place.ev.paused(site.place.arg, 2, 101);
    say(json_pack("{s:s, s:[i], s:i}", "t", "site.start", "generated", 4, "from", -1));
    expect_refused("policy");
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_a_good_one),
                                       TEST(test_none_or_nonsense),
                                       TEST(test_replayed),
                                       TEST(test_out_of_date),
                                       TEST(test_private_rows_do_not_come),
                                       TEST(test_own_policy),
                                       TEST(test_not_what_it_is_for),
                                       TEST(test_model_and_tokens),
                                       TEST(test_a_writer_does_not_read),
                                       TEST(test_another_ticket),
                                       TEST(test_who_only_reads_stops),
                                       TEST(test_the_next_one_s_turn),
                                       TEST(test_a_later_ticket_widens_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
