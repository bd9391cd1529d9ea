#include "base/bytes.h"
#include "base/json.h"
#include "trust/roster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static EVP_PKEY *root, *stranger;

static int make_keys(void **state) {
    struct err e;
    (void)state;
    return (root = key_new(&e)) && (stranger = key_new(&e)) ? 0 : -1;
}

static int free_keys(void **state) {
    (void)state;
    EVP_PKEY_free(root);
    EVP_PKEY_free(stranger);
    return 0;
}

static struct roster_node node(const char *name, uint8_t number) {
    struct roster_node n = {.role = "auto", .n_labels = 1};
    memset(n.pin, number, sizeof n.pin);
    memset(n.audit, number + 1, sizeof n.audit);
    identity_id_of(n.pin, n.id);
    snprintf(n.name, sizeof n.name, "%s", name);
    snprintf(n.labels[0], sizeof n.labels[0], "office");
    snprintf(n.address, sizeof n.address, "10.0.0.%u:7421", number);
    return n;
}

static struct roster *first(void) {
    struct err e = {.code = ERR_NONE};
    struct roster *r = calloc(1, sizeof *r);
    struct roster_node a = node("alpha", 1), b = node("beta", 2);
    assert_non_null(r);
    snprintf(r->cluster, sizeof r->cluster, "home");
    r->epoch = 1;
    assert_int_equal(roster_add(r, &a, &e) || roster_add(r, &b, &e), 0);
    if (roster_sign(r, root, &e)) fail_msg("%s", e.msg);
    return r;
}

static struct roster *second(const struct roster *r, const char *name, uint8_t number) {
    struct err e = {.code = ERR_NONE};
    struct roster *next = roster_next(r, &e);
    struct roster_node n = node(name, number);
    assert_non_null(next);
    if (roster_add(next, &n, &e) || roster_sign(next, root, &e)) fail_msg("%s", e.msg);
    return next;
}

static struct roster *read_with(const json_t *document, EVP_PKEY *key, struct err *e) {
    uint8_t public[KEY_PUBLIC];
    assert_int_equal(key_public(key, public), 0);
    return roster_read(document, public, e);
}

static void test_round_trip(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    struct roster *r = first(), *next;
    roster_revoke(r, node("beta", 2).id, 1700000000);
    assert_int_equal(r->n_nodes, 1);
    assert_int_equal(roster_sign(r, root, &e), 0);
    json_t *document = roster_document(r);
    struct roster *again = read_with(document, root, &e);
    assert_non_null(again);
    assert_string_equal(again->body, r->body);
    assert_memory_equal(again->digest, r->digest, DIGEST_BYTES);
    assert_string_equal(again->nodes[0].name, "alpha");
    assert_string_equal(again->nodes[0].address, "10.0.0.1:7421");
    assert_string_equal(again->nodes[0].labels[0], "office");
    assert_true(roster_is_revoked(again, node("beta", 2).pin));
    assert_int_equal(again->revoked[0].when, 1700000000);
    assert_int_equal(roster_order(r, again), ROSTER_SAME);
    next = roster_next(again, &e);
    struct roster_node beta = node("beta", 2);
    assert_int_equal(roster_add(next, &beta, &e), -1); // a revoked key does not come back
    assert_int_equal(e.code, ERR_DENIED);
    roster_free(next);
    roster_free(again);
    again = roster_read(document, NULL, &e); // by the root that it names
    assert_non_null(again);
    roster_free(again);
    json_decref(document);
    roster_free(r);
}

static void test_wrong_root(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    struct roster *r = first();
    json_t *document = roster_document(r);
    assert_null(read_with(document, stranger, &e));
    assert_int_equal(e.code, ERR_DENIED);
    json_decref(document);
    roster_free(r);
}

// One bit of every byte of the body and of the signature.
static void test_tampered(void **state) {
    (void)state;
    struct err e;
    struct roster *r = first();
    for (size_t i = 0; i < r->body_len; i++) {
        r->body[i] ^= 1;
        json_t *document = roster_document(r); // NULL where it is no UTF-8 any more
        if (document) assert_null(read_with(document, root, &e));
        json_decref(document);
        r->body[i] ^= 1;
    }
    for (size_t i = 0; i < KEY_SIGNATURE; i++) {
        r->signature[i] ^= 0x10;
        json_t *document = roster_document(r);
        assert_null(read_with(document, root, &e));
        json_decref(document);
        r->signature[i] ^= 0x10;
    }
    roster_free(r);
}

static void test_truncated(void **state) {
    (void)state;
    struct err e;
    struct roster *r = first();
    char signature[2 * KEY_SIGNATURE + 1];
    hex_encode(r->signature, KEY_SIGNATURE, signature);
    for (size_t n = 0; n < r->body_len; n += 7) {
        json_t *document = json_pack("{s:s#, s:s}", "body", r->body, (int)n, "sig", signature);
        assert_null(roster_read(document, NULL, &e));
        assert_null(read_with(document, root, &e));
        json_decref(document);
    }
    roster_free(r);
}

// Bodies that the root has signed all the same: only the parser stands in their way.
static struct roster *read_signed(const char *body, struct err *e) {
    uint8_t signature[KEY_SIGNATURE];
    char hex[2 * KEY_SIGNATURE + 1];
    assert_int_equal(key_sign(root, body, strlen(body), signature, e), 0);
    hex_encode(signature, sizeof signature, hex);
    json_t *document = json_pack("{s:s, s:s}", "body", body, "sig", hex);
    struct roster *r = read_with(document, root, e);
    json_decref(document);
    return r;
}

static char *replaced(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    size_t size = strlen(text) + strlen(to) + 1;
    char *out = malloc(size);
    if (!at || !out) fail_msg("no %s in %s", from, text);
    snprintf(out, size, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void test_strict(void **state) {
    (void)state;
    static const char *const edits[][2] = {
        {"{\"cluster\"", "{\"also\":1,\"cluster\""},        // unknown
        {"{\"cluster\"", "{\"cluster\":\"x\",\"cluster\""}, // duplicate
        {"\"cluster\":\"home\",", ""},                      // missing
        {"\"cluster\":\"home\"", "\"cluster\":\"../x\""},
        {"\"cluster\":\"home\"", "\"cluster\":\"\""},
        {"\"cluster\":\"home\"", "\"cluster\": \"home\""}, // not canonical
        {"\"epoch\":1", "\"epoch\":0"},
        {"\"epoch\":1", "\"epoch\":-1"},
        {"\"epoch\":1", "\"epoch\":1.0"},
        {"\"epoch\":1", "\"epoch\":\"1\""},
        {"\"epoch\":1", "\"epoch\":2"}, // prev is of the first
        {"\"epoch\":1", "\"epoch\":99999999999999999999"},
        {"\"v\":1", "\"v\":2"},
        {"\"policy\":null", "\"policy\":{}"},
        {"\"nodes\":[", "\"nodes\":[{},"},
        {"\"nodes\":[", "\"nodes\":[null,"},
        {"\"role\":\"auto\"", "\"role\":\"king\""},
        {"\"role\":\"auto\"", "\"role\":\"auto\",\"root\":1"},
        {"\"name\":\"alpha\"", "\"name\":\"beta\""}, // twice
        {"\"name\":\"alpha\"", "\"name\":\"al\\u0000a\""},
        {"\"name\":\"alpha\"", "\"name\":\"\\u001b[2J\""},
        {"\"labels\":[\"office\"]", "\"labels\":[1]"},
        {"\"labels\":[\"office\"]", "\"labels\":{}"},
        {"10.0.0.1:7421", "10.0.0.1"},
        {"10.0.0.1:7421", "10.0.0.1:0"},
        {"10.0.0.1:7421", "a b:1"},
        {"\"pin\":\"0101", "\"pin\":\"0201"}, // not the id's
        {"\"pin\":\"0101", "\"pin\":\"01"},
        {"\"revoked\":[]", "\"revoked\":[1]"},
        {"\"revoked\":[]", "\"revoked\":null"},
    };
    struct err e;
    struct roster *r = first(), *good = read_signed(r->body, &e);
    assert_non_null(good); // so that it is the edit which is refused below
    roster_free(good);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char *body = replaced(r->body, edits[i][0], edits[i][1]);
        e = (struct err){.code = ERR_NONE};
        struct roster *bad = read_signed(body, &e);
        if (bad) fail_msg("accepted: %s", body);
        assert_int_equal(e.code, ERR_INVALID);
        assert_true(e.msg[0]);
        free(body);
    }
    assert_null(read_signed("", &e));
    assert_null(read_signed("[]", &e));
    assert_null(read_signed("null", &e));
    roster_free(r);
}

static void test_listed_and_revoked(void **state) {
    (void)state;
    struct err e;
    struct roster *r = first();
    struct roster_node beta = node("beta", 2);
    roster_revoke(r, beta.id, 5);
    r->nodes[r->n_nodes++] = beta; // past roster_add
    assert_int_equal(roster_sign(r, root, &e), -1);
    roster_free(r);
}

static void test_order(void **state) {
    (void)state;
    struct err e;
    struct roster *one = first(), *two = second(one, "gamma", 3), *other = second(one, "delta", 4),
                  *three = second(two, "delta", 4), *four = second(three, "eps", 5);
    assert_int_equal(roster_order(one, two), ROSTER_NEWER);
    assert_int_equal(roster_order(two, one), ROSTER_OLDER);
    assert_int_equal(roster_order(two, other), ROSTER_FORK);   // two of one epoch
    assert_int_equal(roster_order(other, three), ROSTER_FORK); // the next one, of another history
    assert_int_equal(roster_order(two, three), ROSTER_NEWER);
    assert_int_equal(roster_order(one, four), ROSTER_NEWER); // epochs may be missed
    assert_int_equal(roster_order(four, four), ROSTER_SAME);
    struct roster *all[] = {one, two, other, three, four};
    for (size_t i = 0; i < 5; i++) roster_free(all[i]);
    (void)e;
}

static void test_changes(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    struct roster *r = first();
    struct roster_node same_name = node("alpha", 9), moved = node("alpha", 1);
    assert_int_equal(roster_add(r, &same_name, &e), -1);
    assert_string_equal(e.param, "name");
    snprintf(moved.address, sizeof moved.address, "[::1]:9");
    assert_int_equal(roster_add(r, &moved, &e), 0); // the same key: replaced
    assert_int_equal(r->n_nodes, 2);
    assert_string_equal(roster_find(r, "alpha")->address, "[::1]:9");
    assert_ptr_equal(roster_find(r, moved.id), roster_find(r, "alpha"));
    assert_null(roster_find(r, "gamma"));
    roster_drop(r, "gamma");
    roster_drop(r, r->nodes[0].id);
    assert_int_equal(r->n_nodes, 1);
    assert_string_equal(r->nodes[0].name, "beta");
    char name[16];
    for (uint8_t i = 10; r->n_nodes < ROSTER_NODES; i++) {
        snprintf(name, sizeof name, "n%u", i);
        struct roster_node n = node(name, i);
        assert_int_equal(roster_add(r, &n, &e), 0);
    }
    assert_int_equal(roster_add(r, &moved, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_int_equal(roster_sign(r, root, &e), 0); // a full one can be written and read
    for (int64_t i = 0; i < ROSTER_REVOKED + 2; i++) {
        struct roster_node n = node("again", 1);
        n.pin[0] = (uint8_t)i;
        n.pin[1] = (uint8_t)(i >> 8);
        identity_id_of(n.pin, n.id);
        roster_drop(r, r->nodes[0].id);
        assert_int_equal(roster_add(r, &n, &e), 0);
        roster_revoke(r, n.id, i);
        r->nodes[r->n_nodes++] = node("beta", 2);
    }
    assert_int_equal(r->n_revoked, ROSTER_REVOKED);
    assert_int_equal(r->revoked[0].when, 2); // the oldest have made room
    roster_free(r);
}

static void test_names_and_addresses(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",    "-a",      ".a",       "a b",
        "a/b", "\x1b[2J", "\xc3\xa9", "0123456789012345678901234567890123456789012345678901234567890123"};
    static const char *const good_at[] = {"", "a:1", "[::1]:7421", "gx10.local:65535"};
    static const char *const bad_at[] = {"a", ":1", "a:", "a:0", "a:65536", "a b:1", "a,b:1", "a\n:1", "a:1x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(roster_is_name(bad[i]));
    assert_true(roster_is_name("gx10.home_2-b"));
    for (size_t i = 0; i < sizeof good_at / sizeof *good_at; i++) assert_true(roster_is_address(good_at[i]));
    for (size_t i = 0; i < sizeof bad_at / sizeof *bad_at; i++) assert_false(roster_is_address(bad_at[i]));
}

static struct policy *policy(const char *rules) {
    struct err e = {.code = ERR_NONE};
    char text[512];
    snprintf(text, sizeof text, "{\"v\":1,\"rules\":[%s]}", rules);
    struct policy *p = policy_read(text, strlen(text), &e);
    if (!p) fail_msg("%s", e.msg);
    return p;
}

// A document whose policy's text is another one, or not there (NULL).
static void refuse_policy(const struct roster *r, const struct policy *other) {
    struct err e = {.code = ERR_NONE};
    json_t *document = roster_document(r);
    size_t n;
    if (other)
        json_object_set_new(document, "policy", json_string(policy_text(other, &n)));
    else
        json_object_del(document, "policy");
    assert_null(read_with(document, root, &e));
    assert_non_null(strstr(e.msg, "policy"));
    json_decref(document);
}

static void test_policy_is_signed_and_travels(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    struct policy *other = policy("");
    struct roster *plain = first(), *r = first();
    r->policy = policy("{\"id\":\"r1\",\"effect\":\"permit\"}");
    assert_int_equal(roster_sign(r, root, &e), 0);
    assert_memory_not_equal(r->digest, plain->digest, DIGEST_BYTES);
    json_t *document = roster_document(r);
    struct roster *again = read_with(document, root, &e);
    assert_non_null(again);
    assert_memory_equal(policy_digest(again->policy), policy_digest(r->policy), DIGEST_BYTES);
    struct roster *next = second(again, "gamma", 3); // it stays in force
    assert_memory_equal(policy_digest(next->policy), policy_digest(r->policy), DIGEST_BYTES);
    refuse_policy(r, other);
    refuse_policy(r, NULL);
    refuse_policy(plain, other); // a text that no body names
    json_decref(document);
    roster_free(next);
    roster_free(again);
    roster_free(r);
    roster_free(plain);
    policy_free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_policy_is_signed_and_travels),
        cmocka_unit_test(test_wrong_root),
        cmocka_unit_test(test_tampered),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_listed_and_revoked),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_names_and_addresses),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
