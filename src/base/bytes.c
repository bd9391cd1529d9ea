#include "base/bytes.h"

#include <string.h>

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// The value of a digit, or -1.
static int value_of(const char *digits, char c) {
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

void hex_encode(const void *data, size_t n, char *out) {
    const uint8_t *in = data;
    for (size_t i = 0; i < n; i++) {
        *out++ = hex_digits[in[i] >> 4];
        *out++ = hex_digits[in[i] & 15];
    }
    *out = 0;
}

int hex_decode(const char *text, void *out, size_t n) {
    uint8_t *to = out;
    if (!text || strlen(text) != 2 * n) return -1;
    for (size_t i = 0; i < n; i++) {
        int high = value_of(hex_digits, text[2 * i]), low = value_of(hex_digits, text[2 * i + 1]);
        if (high < 0 || low < 0) return -1;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

void base64_encode(const void *data, size_t n, char *out) {
    const uint8_t *in = data;
    uint32_t held = 0;
    int bits = 0;
    for (size_t i = 0; i < n; i++) {
        held = (held << 8 | in[i]) & 0xffff;
        for (bits += 8; bits >= 6; bits -= 6) *out++ = base64_digits[held >> (bits - 6) & 63];
    }
    if (bits) *out++ = base64_digits[held << (6 - bits) & 63];
    *out = 0;
}

int base64_decode(const char *text, size_t len, uint8_t *out, size_t max, size_t *n) {
    uint32_t held = 0;
    int bits = 0;
    *n = 0;
    for (size_t i = 0; i < len; i++) {
        int v = value_of(base64_digits, text[i]);
        if (v < 0) return -1;
        held = (held << 6 | (uint32_t)v) & 0xffff;
        if ((bits += 6) < 8) continue;
        bits -= 8;
        if (*n == max) return -1;
        out[(*n)++] = (uint8_t)(held >> bits);
    }
    // a digit that holds no byte, or bits that no byte is made of, would give one content several texts
    return bits == 6 || held & ((1u << bits) - 1) ? -1 : 0;
}
