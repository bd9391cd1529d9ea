#include "base/bytes.h"
#include "trust/pairing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct pairing_token sample(void) {
    struct pairing_token t = {.n = 2};
    for (size_t i = 0; i < sizeof t.root; i++) t.root[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof t.secret; i++) t.secret[i] = (uint8_t)(200 + i);
    snprintf(t.addresses[0], ROSTER_ADDRESS, "192.168.1.5:7421");
    snprintf(t.addresses[1], ROSTER_ADDRESS, "[fd00::1]:7421");
    return t;
}

static void test_token_round_trip(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    char text[PAIRING_TOKEN];
    struct pairing_token t = sample(), back;
    assert_int_equal(pairing_encode(&t, text, &e), 0);
    assert_int_equal(strncmp(text, "neb1-", 5), 0);
    assert_int_equal(strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), strlen(text));
    assert_int_equal(pairing_decode(text, &back, &e), 0);
    assert_memory_equal(&t, &back, sizeof t);
}

static void test_token_bounds(void **state) {
    (void)state;
    struct err e;
    char text[PAIRING_TOKEN];
    struct pairing_token t = sample(), back;
    t.n = PAIRING_ADDRESSES;
    for (size_t i = 0; i < t.n; i++) { // as long as one can be
        memset(t.addresses[i], 'a', 249);
        snprintf(t.addresses[i] + 249, 8, ":65535");
    }
    assert_int_equal(pairing_encode(&t, text, &e), 0);
    assert_int_equal(pairing_decode(text, &back, &e), 0);
    assert_memory_equal(&t, &back, sizeof t);
    memset(t.addresses[0], 'a', 250);
    snprintf(t.addresses[0] + 250, 8, ":65535");
    assert_int_equal(pairing_encode(&t, text, &e), -1);
    t = sample();
    t.n = 0;
    assert_int_equal(pairing_encode(&t, text, &e), -1);
    t.n = PAIRING_ADDRESSES + 1;
    assert_int_equal(pairing_encode(&t, text, &e), -1);
    t = sample();
    t.addresses[1][0] = 0;
    assert_int_equal(pairing_encode(&t, text, &e), -1);
}

static void refuse(const char *text) {
    struct pairing_token t, zero = {.n = 0};
    struct err e = {.code = ERR_NONE};
    memset(&t, 0xff, sizeof t);
    if (!pairing_decode(text, &t, &e)) fail_msg("accepted: %s", text);
    assert_int_equal(e.code, ERR_INVALID);
    assert_memory_equal(&t, &zero, sizeof t);                     // no half secret stays behind
    if (strlen(text) > 20) assert_null(strstr(e.msg, text + 10)); // not quoted
}

static void test_hostile_tokens(void **state) {
    (void)state;
    struct err e;
    char text[PAIRING_TOKEN], cut[PAIRING_TOKEN + 8], huge[3 * PAIRING_TOKEN];
    struct pairing_token t = sample();
    assert_int_equal(pairing_encode(&t, text, &e), 0);
    for (size_t n = 0; n < strlen(text); n++) { // truncated anywhere
        snprintf(cut, sizeof cut, "%.*s", (int)n, text);
        refuse(cut);
    }
    snprintf(cut, sizeof cut, "%sA", text); // longer
    refuse(cut);
    snprintf(cut, sizeof cut, "%sAAAA", text);
    refuse(cut);
    snprintf(cut, sizeof cut, " %s", text);
    refuse(cut);
    snprintf(cut, sizeof cut, "neb2%s", text + 4);
    refuse(cut);
    snprintf(cut, sizeof cut, "%s\n", text);
    refuse(cut);
    memset(huge, 'A', sizeof huge - 1);
    huge[sizeof huge - 1] = 0;
    refuse(huge);
    memcpy(huge, "neb1-", 5);
    refuse(huge);
    refuse("neb1-");
    refuse("--help");
}

// Raw bytes behind a right prefix: counts and lengths that lie.
static void refuse_raw(const uint8_t *raw, size_t n) {
    char text[PAIRING_TOKEN] = "neb1-";
    base64_encode(raw, n, text + 5);
    refuse(text);
}

static void test_lying_lengths(void **state) {
    (void)state;
    uint8_t raw[400] = {1};
    raw[49] = 1;
    refuse_raw(raw, 49);
    refuse_raw(raw, 50); // one address, none there
    raw[50] = 0;
    refuse_raw(raw, 51); // of length 0
    raw[50] = 255;
    refuse_raw(raw, 51);
    raw[50] = 3;
    memcpy(raw + 51, "a:1", 3);
    raw[49] = 2;
    refuse_raw(raw, 54); // two announced
    raw[49] = 9;
    refuse_raw(raw, 54);
    raw[49] = 0;
    refuse_raw(raw, 50);
    raw[49] = 1;
    refuse_raw(raw, 55); // a byte too many
    memcpy(raw + 51, "a\0001", 3);
    refuse_raw(raw, 54);
    memcpy(raw + 51, "a\n1", 3);
    refuse_raw(raw, 54);
    memcpy(raw + 51, "a:1", 3);
    raw[0] = 2;
    refuse_raw(raw, 54);
    raw[0] = 1;
    char text[PAIRING_TOKEN] = "neb1-";
    struct pairing_token t;
    struct err e;
    base64_encode(raw, 54, text + 5);
    assert_int_equal(pairing_decode(text, &t, &e), 0); // and this is what the lies were told about
    assert_string_equal(t.addresses[0], "a:1");
}

static void test_proofs(void **state) {
    (void)state;
    struct pairing_token t = sample();
    struct pairing_link l = {.exporter = {1}, .inviter = {2}, .joiner = {3}}, other;
    struct roster_node n = {.role = "auto", .name = "beta"}, changed;
    uint8_t root[KEY_PUBLIC] = {9}, right[PAIRING_PROOF], proof[PAIRING_PROOF], secret[PAIRING_SECRET];
    pairing_prove_root(t.secret, &l, root, right);
    pairing_prove_root(t.secret, &l, root, proof);
    assert_true(pairing_same(right, proof));
    for (size_t i = 0; i < sizeof l; i++) { // another connection, another inviter, another joiner
        other = l;
        ((uint8_t *)&other)[i] ^= 1;
        pairing_prove_root(t.secret, &other, root, proof);
        assert_false(pairing_same(right, proof));
    }
    for (size_t i = 0; i < sizeof secret; i++) {
        memcpy(secret, t.secret, sizeof secret);
        secret[i] ^= 0x80;
        pairing_prove_root(secret, &l, root, proof);
        assert_false(pairing_same(right, proof));
    }
    root[31] ^= 1;
    pairing_prove_root(t.secret, &l, root, proof);
    assert_false(pairing_same(right, proof));
    pairing_prove_node(t.secret, &l, &n, right);
    assert_false(pairing_same(right, proof)); // one side's proof is not the other's
    changed = n;
    snprintf(changed.address, sizeof changed.address, "evil:1");
    pairing_prove_node(t.secret, &l, &changed, proof);
    assert_false(pairing_same(right, proof));
    changed = n;
    changed.audit[5] = 1;
    pairing_prove_node(t.secret, &l, &changed, proof);
    assert_false(pairing_same(right, proof));
    pairing_prove_node(t.secret, &l, &n, proof);
    assert_true(pairing_same(right, proof));
}

static void test_invitation_id(void **state) {
    (void)state;
    struct pairing_token t = sample();
    char one[PAIRING_ID], two[PAIRING_ID], hex[2 * PAIRING_SECRET + 1];
    pairing_id(t.secret, one);
    hex_encode(t.secret, PAIRING_SECRET, hex);
    assert_string_not_equal(one, hex);
    t.secret[15] ^= 1;
    pairing_id(t.secret, two);
    assert_string_not_equal(one, two);
    assert_int_equal(strlen(one), PAIRING_ID - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_round_trip), cmocka_unit_test(test_token_bounds),
        cmocka_unit_test(test_hostile_tokens),   cmocka_unit_test(test_lying_lengths),
        cmocka_unit_test(test_proofs),           cmocka_unit_test(test_invitation_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
