// The wire layout of a frame, byte for byte, and that no head slips through whose numbers do not fit together.
#include "base/limits.h"
#include "net/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

static const char payload[] = "rows of one layer";

// Made by another program (Python's struct and the XXH3 of libxxhash) from the description in frame.h.
static const uint8_t golden[KVFRAME_BYTES] = {0x4e, 0x4b, 0x56, 0x31, 0x01, 0x01, 0x01, 0x00, 0x88, 0x77,
                                              0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x07, 0x00, 0x00, 0x00,
                                              0x00, 0x02, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x11, 0x00,
                                              0x00, 0x00, 0x3b, 0x7d, 0xeb, 0xce, 0xef, 0x14, 0x73, 0xc6};

static struct kvframe rows(void) {
    return (struct kvframe){.type = KVFRAME_ROWS,
                            .kind = 1,
                            .dtype = 1,
                            .stream = 0x1122334455667788,
                            .layer = 7,
                            .first = 512,
                            .count = 2,
                            .length = sizeof payload - 1};
}

static struct kvframe state(void) {
    return (struct kvframe){.type = KVFRAME_STATE, .stream = 1, .first = 100, .count = 150, .length = 50};
}

static void golden_bytes(void **arg) {
    (void)arg;
    struct kvframe f = rows(), back;
    struct err e;
    uint8_t wire[KVFRAME_BYTES];
    f.checksum = kvframe_checksum(&f, payload);
    kvframe_encode(&f, wire);
    assert_memory_equal(wire, golden, sizeof wire);
    assert_int_equal(kvframe_decode(golden, &back, &e), 0);
    assert_memory_equal(&back.stream, &f.stream, sizeof f.stream);
    assert_true(back.type == f.type && back.kind == 1 && back.dtype == 1 && back.layer == 7 && back.first == 512 &&
                back.count == 2 && back.length == f.length && back.checksum == f.checksum);
    f = state();
    kvframe_encode(&f, wire);
    assert_int_equal(kvframe_decode(wire, &back, &e), 0);
    assert_true(back.type == KVFRAME_STATE && back.first == 100 && back.count == 150 && back.length == 50);
}

// The hash is the published XXH3 (its test vector for the empty input), chained as the header says.
static void checksum_is_xxh3(void **arg) {
    (void)arg;
    assert_true(XXH3_64bits("", 0) == 0x2d06800538d394c2ull);
    struct kvframe f = rows();
    uint8_t head[KVFRAME_BYTES];
    kvframe_encode(&f, head);
    uint64_t want = XXH3_64bits_withSeed(payload, sizeof payload - 1, XXH3_64bits(head, 32));
    assert_true(kvframe_checksum(&f, payload) == want);
}

// Every bit of the payload and of the head (but the checksum itself, and the byte that must be 0) counts.
static void every_bit_counts(void **arg) {
    (void)arg;
    struct kvframe f = rows(), g;
    struct err e;
    char copy[sizeof payload];
    uint8_t head[KVFRAME_BYTES];
    uint64_t sum = kvframe_checksum(&f, payload);
    for (size_t bit = 0; bit < 8 * (sizeof payload - 1); bit++) {
        memcpy(copy, payload, sizeof copy);
        copy[bit / 8] ^= (char)(1 << bit % 8);
        assert_true(kvframe_checksum(&f, copy) != sum);
    }
    for (size_t bit = 0; bit < 8 * 28; bit++) {
        kvframe_encode(&f, head);
        head[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (!kvframe_decode(head, &g, &e)) assert_true(kvframe_checksum(&g, payload) != sum);
    }
}

static void refused(const struct kvframe *f, const char *why) {
    uint8_t wire[KVFRAME_BYTES];
    struct kvframe back;
    struct err e = {0};
    kvframe_encode(f, wire);
    assert_int_equal(kvframe_decode(wire, &back, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.msg, why));
}

static void bad_rows(void **arg) {
    (void)arg;
    struct kvframe f = rows();
#define REFUSED(member, value, why)                                                                                    \
    do {                                                                                                               \
        f = rows();                                                                                                    \
        f.member = (value);                                                                                            \
        refused(&f, why);                                                                                              \
    } while (0)
    REFUSED(type, (enum kvframe_type)0, "unknown type");
    REFUSED(type, (enum kvframe_type)4, "unknown type");
    REFUSED(kind, KVFRAME_KINDS, "kind");
    REFUSED(kind, 255, "kind");
    REFUSED(dtype, KVFRAME_DTYPES, "type");
    REFUSED(length, 0, "0 bytes");
    REFUSED(length, LIMIT_KV_FRAME + 1, "the most is");
    REFUSED(length, UINT32_MAX, "the most is");
    REFUSED(count, 0, "0 rows");
    REFUSED(count, UINT32_MAX, "rows");
    REFUSED(count, INT32_MAX, "rows"); // first + count would overflow
    REFUSED(first, UINT32_MAX, "rows");
    REFUSED(first, INT32_MAX, "rows");
    f = rows();
    f.first = INT32_MAX - 2;
    uint8_t wire[KVFRAME_BYTES];
    struct kvframe back;
    struct err e;
    kvframe_encode(&f, wire);
    assert_int_equal(kvframe_decode(wire, &back, &e), 0); // the last position there is
}

static void bad_states(void **arg) {
    (void)arg;
    struct kvframe f;
#undef REFUSED
#define REFUSED(member, value)                                                                                         \
    do {                                                                                                               \
        f = state();                                                                                                   \
        f.member = (value);                                                                                            \
        refused(&f, "state");                                                                                          \
    } while (0)
    REFUSED(kind, 1);
    REFUSED(dtype, 1);
    REFUSED(layer, 1);
    REFUSED(length, 51);
    REFUSED(first, 101);
    REFUSED(first, 150);
    REFUSED(first, UINT32_MAX);
    REFUSED(count, 149);
    REFUSED(count, 0);
    REFUSED(count, UINT32_MAX);
}

static void bad_probes(void **arg) {
    (void)arg;
    static const struct kvframe good = {.type = KVFRAME_PROBE, .stream = 9, .length = LIMIT_KV_PROBE};
    struct kvframe f, back;
    struct err e;
    uint8_t wire[KVFRAME_BYTES];
    kvframe_encode(&good, wire);
    assert_int_equal(kvframe_decode(wire, &back, &e), 0);
    assert_true(back.type == KVFRAME_PROBE && back.stream == 9 && back.length == LIMIT_KV_PROBE);
#undef REFUSED
#define REFUSED(member, value, why)                                                                                    \
    do {                                                                                                               \
        f = good;                                                                                                      \
        f.member = (value);                                                                                            \
        refused(&f, why);                                                                                              \
    } while (0)
    REFUSED(kind, 1, "names rows");
    REFUSED(dtype, 1, "names rows");
    REFUSED(layer, 1, "names rows");
    REFUSED(first, 1, "names rows");
    REFUSED(count, 1, "names rows");
    REFUSED(length, 0, "0 bytes");
    REFUSED(length, LIMIT_KV_PROBE + 1, "the most is");
    REFUSED(length, UINT32_MAX, "the most is");
}

// A head that was cut off and filled up with anything: a wrong magic or a number that does not fit.
static void wrong_magic(void **arg) {
    (void)arg;
    struct kvframe back;
    struct err e;
    for (size_t at = 0; at < 8; at++) {
        uint8_t wire[KVFRAME_BYTES];
        memcpy(wire, golden, sizeof wire);
        wire[at] ^= 0x80;
        assert_int_equal(kvframe_decode(wire, &back, &e), -1);
    }
    for (size_t have = 0; have < KVFRAME_BYTES - 8; have++) { // up to the checksum
        uint8_t wire[KVFRAME_BYTES];
        memset(wire, 0xff, sizeof wire);
        memcpy(wire, golden, have);
        assert_int_equal(kvframe_decode(wire, &back, &e), -1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes), cmocka_unit_test(checksum_is_xxh3), cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(bad_rows),     cmocka_unit_test(bad_states),       cmocka_unit_test(wrong_magic),
        cmocka_unit_test(bad_probes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
