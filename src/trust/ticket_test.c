#include "base/buf.h"
#include "base/bytes.h"
#include "base/json.h"
#include "trust/ticket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GATEWAY, NODE, OTHER, MEMBERS };
#define NOW 1790000000000ll

static EVP_PKEY *keys[MEMBERS];
static struct roster *roster;
static struct ticket_view view;
static const char *id(int member) { return roster->nodes[member].id; }

static int setup(void **state) {
    struct err e;
    (void)state;
    roster = calloc(1, sizeof *roster);
    assert_non_null(roster);
    snprintf(roster->cluster, sizeof roster->cluster, "home");
    roster->epoch = 7;
    for (int i = 0; i < MEMBERS; i++) {
        struct roster_node n = {.role = "auto"};
        memset(n.pin, i + 1, sizeof n.pin);
        identity_id_of(n.pin, n.id);
        snprintf(n.name, sizeof n.name, "node%d", i);
        assert_non_null(keys[i] = key_new(&e));
        assert_int_equal(key_public(keys[i], n.audit), 0);
        assert_int_equal(roster_add(roster, &n, &e), 0);
    }
    static const uint8_t policy[DIGEST_BYTES] = {5};
    view = (struct ticket_view){.roster = roster,
                                .policy = policy,
                                .node = id(NODE),
                                .session = "0123456789abcdef0123456789abcdef",
                                .now_ms = NOW};
    return 0;
}

static int teardown(void **state) {
    (void)state;
    roster_free(roster);
    for (int i = 0; i < MEMBERS; i++) EVP_PKEY_free(keys[i]);
    return 0;
}

// ann, a sub-agent of bob: the gateway's node reads, this one writes.
static const char *const groups[] = {"research", "night"}, *const labels[] = {"private"};
static const struct policy_agent lineage[] = {{.id = "ann", .groups = {groups, 1}},
                                              {.id = "bob", .groups = {groups, 2}, .labels = {labels, 1}}};
static const struct policy_subject ann = {.lineage = lineage, .n = 2, .labels = {labels, 1}};

static struct ticket sample(void) {
    struct ticket t = {.cluster = "home",
                       .req_id = "cmpl-1",
                       .epoch = 7,
                       .policy = {5},
                       .model = "llama-3",
                       .writes_on = true,
                       .tokens = 100,
                       .who = &ann};
    snprintf(t.gateway, sizeof t.gateway, "%s", id(GATEWAY));
    snprintf(t.prefill.node, sizeof t.prefill.node, "%s", id(GATEWAY));
    snprintf(t.decode.node, sizeof t.decode.node, "%s", id(NODE));
    memset(t.prefill.session, 'b', TICKET_ID - 1);
    snprintf(t.decode.session, sizeof t.decode.session, "%s", view.session);
    memset(t.weights, 'c', 2 * DIGEST_BYTES);
    return t;
}

static json_t *issued(struct ticket *t, int64_t now) {
    struct err e = {.code = ERR_NONE};
    json_t *document = ticket_sign(t, keys[GATEWAY], now, &e);
    if (!document) fail_msg("%s", e.msg);
    return document;
}

// What node `from` makes this one believe.
static enum ticket_fault judge(const json_t *document, int from) {
    enum ticket_fault why;
    struct ticket *t = ticket_read(document, roster, id(from), &why);
    assert_int_equal(!t, why != TICKET_FINE);
    if (t) why = ticket_check(t, &view);
    ticket_free(t);
    return why;
}

static void expect(struct ticket t, enum ticket_fault wanted) {
    json_t *document = issued(&t, NOW);
    assert_string_equal(ticket_fault_name(judge(document, GATEWAY)), ticket_fault_name(wanted));
    json_decref(document);
}

static const char *body_of(const json_t *document) { return json_string_value(json_object_get(document, "body")); }

// Signed by the gateway, whatever it is.
static json_t *signed_by(EVP_PKEY *key, const char *prefix, size_t n, const char *body) {
    char all[4096], hex[2 * KEY_SIGNATURE + 1];
    uint8_t signature[KEY_SIGNATURE];
    struct err e;
    assert_true(n + strlen(body) < sizeof all);
    memcpy(all, prefix, n);
    memcpy(all + n, body, strlen(body));
    assert_int_equal(key_sign(key, all, n + strlen(body), signature, &e), 0);
    hex_encode(signature, sizeof signature, hex);
    return json_pack("{s:s, s:s}", "body", body, "sig", hex);
}

static json_t *gateway_says(const char *body) {
    static const char purpose[] = "nebulus-ticket-v1";
    return signed_by(keys[GATEWAY], purpose, sizeof purpose, body);
}

// What comes of the body when one of its texts is another one, as the gateway says it.
static json_t *gateway_says_edited(const char *body, const char *was, const char *is) {
    struct buf b;
    const char *at = strstr(body, was);
    if (!at) fail_msg("no %s in %s", was, body);
    buf_init(&b, 4096);
    buf_append(&b, body, (size_t)(at - body));
    buf_puts(&b, is);
    assert_int_equal(buf_puts(&b, at + strlen(was)), 0);
    json_t *document = gateway_says(buf_str(&b));
    buf_free(&b);
    return document;
}

// ---------------------------------------------------------------- tests
static void test_round_trip(void **state) {
    (void)state;
    enum ticket_fault why;
    struct ticket said = sample();
    memset(said.parent, 'd', TICKET_ID - 1);
    json_t *document = issued(&said, NOW);
    struct ticket *t = ticket_read(document, roster, id(GATEWAY), &why);
    assert_non_null(t);
    assert_int_equal(ticket_check(t, &view), TICKET_FINE);
    assert_string_equal(t->nonce, said.nonce);
    assert_string_equal(t->parent, said.parent);
    assert_string_equal(t->req_id, "cmpl-1");
    assert_string_equal(t->model, "llama-3");
    assert_string_equal(t->weights, said.weights);
    assert_true(t->writes_on && t->tokens == 100 && t->issued == NOW && t->expires == NOW + TICKET_LIFE_MS);
    assert_int_equal(t->who->n, 2);
    assert_string_equal(t->who->lineage[0].id, "ann");
    assert_null(t->who->lineage[0].labels.v); // those of the request
    assert_string_equal(t->who->lineage[1].groups.v[1], "night");
    assert_string_equal(t->who->lineage[1].labels.v[0], "private");
    assert_string_equal(t->who->labels.v[0], "private");
    assert_string_equal(t->who->model, "llama-3");
    assert_string_equal(t->who->gateway, id(GATEWAY));
    ticket_free(t);
    json_t *again = issued(&said, NOW); // no two have one name
    assert_string_not_equal(body_of(document), body_of(again));
    json_decref(again);
    json_decref(document);
}

// One bit of every byte.
static void test_tampered(void **state) {
    (void)state;
    struct ticket said = sample();
    json_t *document = issued(&said, NOW);
    char *body = strdup(body_of(document)), *sig = strdup(json_string_value(json_object_get(document, "sig")));
    for (char *const *text = (char *[]){body, sig, NULL}; *text; text++) {
        for (char *p = *text; *p; p++) {
            *p ^= 1;
            json_t *other = json_pack("{s:s, s:s}", "body", body, "sig", sig); // NULL: no text any more
            if (other) assert_int_equal(judge(other, GATEWAY), TICKET_SIGNATURE);
            json_decref(other);
            *p ^= 1;
        }
    }
    free(body);
    free(sig);
    json_decref(document);
}

static void test_whose_word_it_is(void **state) {
    (void)state;
    struct ticket t = sample();
    json_t *document = issued(&t, NOW), *other;
    struct roster *none = NULL;
    enum ticket_fault why;
    assert_int_equal(judge(document, GATEWAY), TICKET_FINE);
    assert_int_equal(judge(document, OTHER), TICKET_SIGNATURE); // who got it passes it on
    assert_null(ticket_read(document, roster, "node0", &why));  // a name is no id
    assert_int_equal(why, TICKET_ISSUER);
    assert_null(ticket_read(document, none, id(GATEWAY), &why));
    assert_int_equal(why, TICKET_ISSUER);
    assert_null(ticket_read(NULL, roster, id(GATEWAY), &why));
    assert_int_equal(why, TICKET_MISSING);
    // a member that signs in the name of another
    static const char purpose[] = "nebulus-ticket-v1";
    other = signed_by(keys[OTHER], purpose, sizeof purpose, body_of(document));
    assert_int_equal(judge(other, OTHER), TICKET_ISSUER);
    assert_int_equal(judge(other, GATEWAY), TICKET_SIGNATURE);
    json_decref(other);
    // what the key signs for other ends is no ticket
    other = signed_by(keys[GATEWAY], "", 0, body_of(document));
    assert_int_equal(judge(other, GATEWAY), TICKET_SIGNATURE);
    json_decref(other);
    other = signed_by(keys[GATEWAY], purpose, sizeof purpose - 1, body_of(document));
    assert_int_equal(judge(other, GATEWAY), TICKET_SIGNATURE);
    json_decref(other);
    char gateway[IDENTITY_ID];
    snprintf(gateway, sizeof gateway, "%s", id(GATEWAY));
    roster_revoke(roster, gateway, 1);
    assert_null(ticket_read(document, roster, gateway, &why));
    assert_int_equal(why, TICKET_ISSUER);
    json_decref(document);
}

// What the gateway has signed all the same: only the parser stands in its way.
static void test_strict(void **state) {
    (void)state;
    static const char *const edits[][2] = {
        {"{\"cluster\"", "{\"also\":1,\"cluster\""},        // unknown
        {"{\"cluster\"", "{\"cluster\":\"x\",\"cluster\""}, // duplicate
        {"\"cluster\":\"home\",", ""},                      // missing
        {"\"cluster\":\"home\"", "\"cluster\": \"home\""},  // not canonical
        {"\"cluster\":\"home\"", "\"cluster\":\"../x\""},
        {"\"cluster\":\"home\"", "\"cluster\":\"ho\\u0000e\""},
        {"\"cluster\":\"home\"", "\"cluster\":\"h\\u006fme\""},
        {"\"epoch\":7", "\"epoch\":0"},
        {"\"epoch\":7", "\"epoch\":7.0"},
        {"\"epoch\":7", "\"epoch\":\"7\""},
        {"\"epoch\":7", "\"epoch\":9999999999999999"},
        {"\"v\":1", "\"v\":2"},
        {"\"writes_on\":true", "\"writes_on\":1"},
        {"\"writes_on\":true", "\"writes_on\":null"},
        {",\"writes_on\":true", ""},
        {"\"tokens\":100", "\"tokens\":-2"},
        {"\"tokens\":100", "\"tokens\":1e2"},
        {"\"req_id\":\"cmpl-1\"", "\"req_id\":\"\""},
        {"\"req_id\":\"cmpl-1\"", "\"req_id\":\"a b\""},
        {"\"model\":\"llama-3\"", "\"model\":\"\\u001b[2J\""},
        {"\"nonce\":\"", "\"nonce\":\"0"},
        {"\"parent\":\"\"", "\"parent\":\"0\""},
        {"\"parent\":\"\"", "\"parent\":null"},
        {"\"policy\":\"05", "\"policy\":\"5"},
        {"\"policy\":\"05", "\"policy\":\"0X"},
        {"\"weights\":\"c", "\"weights\":\"C"},
        {"\"weights\":\"c", "\"weights\":\""},
        {"\"labels\":[\"private\"],\"lineage\"", "\"labels\":null,\"lineage\""},
        {"\"labels\":[\"private\"],\"lineage\"", "\"labels\":[1],\"lineage\""},
        {"\"labels\":null", "\"labels\":0"},
        {"\"groups\":[\"research\"]", "\"groups\":null"},
        {"\"groups\":[\"research\"]", "\"groups\":[\"res earch\"]"},
        {"\"id\":\"ann\"", "\"id\":null"},
        {"\"id\":\"ann\"", "\"id\":\"\""},
        {"\"id\":\"ann\"", "\"id\":\"ann\",\"root\":1"},
        {"\"lineage\":[", "\"lineage\":[{},"},
        {"\"lineage\":[", "\"lineage\":[null,"},
        {"\"decode\":{\"node\":\"", "\"decode\":{\"node\":\"g"},
        {"\"decode\":{", "\"decode\":[],\"x\":{"},
        {"\"session\":\"0123", "\"session\":\"123"},
        {"\"issued\":1790000000000", "\"issued\":1789999999999"}, // lives too long
        {"\"issued\":1790000000000", "\"issued\":1790000060000"}, // not at all
        {"\"issued\":1790000000000", "\"issued\":-1"},
    };
    struct ticket t = sample();
    json_t *document = issued(&t, NOW), *other;
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        other = gateway_says_edited(body_of(document), edits[i][0], edits[i][1]);
        if (judge(other, GATEWAY) != TICKET_MALFORMED) fail_msg("%s is read", body_of(other));
        json_decref(other);
    }
    json_decref(document);
}

static void test_cut_and_other_shapes(void **state) {
    (void)state;
    struct ticket t = sample();
    json_t *document = issued(&t, NOW), *other;
    for (size_t n = 0; n < strlen(body_of(document)); n++) {
        char *body = strndup(body_of(document), n);
        other = gateway_says(body);
        assert_int_equal(judge(other, GATEWAY), TICKET_MALFORMED);
        json_decref(other);
        free(body);
    }
    static const char *const shapes[] = {"{}", "[]", "{\"body\":1,\"sig\":\"\"}", "{\"body\":\"{}\",\"sig\":1}",
                                         "null"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        other = json_loads(shapes[i], JSON_DECODE_ANY, NULL);
        assert_int_equal(judge(other, GATEWAY), TICKET_MALFORMED);
        json_decref(other);
    }
    json_object_set_new(document, "policy", json_null());
    assert_int_equal(judge(document, GATEWAY), TICKET_MALFORMED);
    json_decref(document);
}

static void test_judged(void **state) {
    (void)state;
    struct ticket t = sample();
    expect(t, TICKET_FINE);
    t.epoch = 8; // the gateway's roster is newer, and so may its policy be
    t.policy[0] = 6;
    expect(t, TICKET_FINE);
    t.epoch = 7;
    expect(t, TICKET_POLICY);
    t = sample();
    t.epoch = 6;
    expect(t, TICKET_EPOCH);
    t = sample();
    snprintf(t.cluster, sizeof t.cluster, "work");
    expect(t, TICKET_CLUSTER);
    t = sample();
    memcpy(t.decode.node, id(OTHER), sizeof t.decode.node);
    expect(t, TICKET_NODE);
    t = sample();
    t.decode.session[0] = 'f';
    expect(t, TICKET_SESSION);
    t.decode.session[0] = '\0';
    expect(t, TICKET_SESSION);
    view.session = ""; // none of both is no match
    expect(t, TICKET_SESSION);
}

// The rule for clocks: five minutes either way.
static void test_clocks(void **state) {
    (void)state;
    struct ticket t = sample();
    json_t *document = issued(&t, NOW);
    static const struct {
        int64_t now;
        enum ticket_fault wanted;
    } rows[] = {
        {NOW, TICKET_FINE},
        {NOW - TICKET_SKEW_MS, TICKET_FINE},
        {NOW - TICKET_SKEW_MS - 1, TICKET_EARLY},
        {NOW + TICKET_LIFE_MS + TICKET_SKEW_MS - 1, TICKET_FINE},
        {NOW + TICKET_LIFE_MS + TICKET_SKEW_MS, TICKET_EXPIRED},
        {NOW + 14ll * 365 * 86400 * 1000, TICKET_EXPIRED}, // 2040
        {1000, TICKET_EARLY},                              // 1970
        {0, TICKET_CLOCK},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        view.now_ms = rows[i].now;
        assert_string_equal(ticket_fault_name(judge(document, GATEWAY)), ticket_fault_name(rows[i].wanted));
    }
    json_decref(document);
}

static void test_what_cannot_be_said(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    struct policy_agent many[POLICY_LINEAGE + 1];
    struct policy_subject who = {.lineage = many, .n = POLICY_LINEAGE + 1, .labels = {labels, 1}};
    struct ticket t = sample();
    for (size_t i = 0; i <= POLICY_LINEAGE; i++) many[i] = lineage[0];
    t.who = &who;
    assert_null(ticket_sign(&t, keys[GATEWAY], NOW, &e));
    assert_int_equal(e.code, ERR_LIMIT);
    who.n = 0; // nobody asks
    assert_null(ticket_sign(&t, keys[GATEWAY], NOW, &e));
    who.n = POLICY_LINEAGE;
    json_t *document = ticket_sign(&t, keys[GATEWAY], NOW, &e);
    assert_int_equal(judge(document, GATEWAY), TICKET_FINE);
    json_decref(document);
}

// The longest that there is fits.
static void test_longest(void **state) {
    (void)state;
    static char names[TICKET_NAMES][ROSTER_NAME];
    const char *list[TICKET_NAMES];
    struct policy_agent many[POLICY_LINEAGE];
    const struct policy_subject who = {.lineage = many, .n = POLICY_LINEAGE, .labels = {list, TICKET_NAMES}};
    struct ticket t = sample();
    for (int i = 0; i < TICKET_NAMES; i++) {
        memset(names[i], 'a' + i % 26, ROSTER_NAME - 1);
        list[i] = names[i];
    }
    for (size_t i = 0; i < POLICY_LINEAGE; i++)
        many[i] = (struct policy_agent){.id = names[0], .groups = {list, 16}, .labels = {list, 16}};
    t.who = &who;
    expect(t, TICKET_FINE);
}

static void test_reasons(void **state) {
    (void)state;
    for (int f = TICKET_FINE + 1; f < TICKET_FAULTS; f++) {
        struct err e = {.code = ERR_NONE};
        assert_int_equal(ticket_refuse((enum ticket_fault)f, &e), -1);
        assert_true(e.code == ERR_DENIED || e.code == ERR_UNREACHABLE || e.code == ERR_BUSY);
        assert_int_equal(ticket_fault_of(e.param), f);
    }
    assert_int_equal(ticket_fault_of("ticket_fine"), TICKET_FINE);
    assert_int_equal(ticket_fault_of(""), TICKET_FINE);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),           TEST(test_tampered), TEST(test_whose_word_it_is), TEST(test_strict),
        TEST(test_cut_and_other_shapes), TEST(test_judged),   TEST(test_clocks),           TEST(test_longest),
        TEST(test_what_cannot_be_said),  TEST(test_reasons)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
