// engine/worker/detok: whatever bytes tokens hold and however they are cut, what is shown is valid UTF-8 without NUL
// and without any stop string, and does not depend on the cutting.
//     input: n, n stop strings (a length byte and that many bytes each), then the text; its first bytes say how to cut
#include "base/text.h"
#include "engine/worker/detok.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct stops {
    char text[LIMIT_STOP_STRINGS][LIMIT_STOP_BYTES];
    char *list[LIMIT_STOP_STRINGS];
    size_t n;
};

// Those that a request may hold: not empty, valid UTF-8, no NUL. Returns how much of the input they took.
static size_t take_stops(struct stops *s, const uint8_t *data, size_t size) {
    size_t at = 1, wanted = size ? data[0] % (LIMIT_STOP_STRINGS + 1) : 0;
    s->n = 0;
    while (s->n < wanted && at < size) {
        size_t len = data[at++];
        if (len > size - at) len = size - at;
        if (len >= LIMIT_STOP_BYTES) len = LIMIT_STOP_BYTES - 1;
        char *text = s->text[s->n];
        memcpy(text, data + at, len);
        text[len] = 0;
        at += len;
        if (!len || strlen(text) != len || !text_is_utf8(text, len))
            wanted--;
        else
            s->list[s->n++] = text;
    }
    return at < size ? at : size;
}

struct shown {
    struct buf text;
    int stop;
};

// Pushes the text in pieces whose sizes `cut` gives in turn (0: one piece), and looks at every step.
static void show(struct shown *out, const struct stops *s, const uint8_t *text, size_t n, const uint8_t *cut,
                 size_t n_cut) {
    struct detok d;
    buf_init(&out->text, 1 << 20);
    out->stop = -1;
    detok_init(&d, s->list, s->n);
    for (size_t at = 0, i = 0; at < n && out->stop < 0; i++) {
        size_t len = n_cut ? cut[i % n_cut] % 8u : n;
        if (len > n - at) len = n - at;
        if (!len && !(cut[i % n_cut] & 8)) len = 1; // an empty piece now and then
        if (!len && i > 4 * n) len = n - at;
        out->stop = detok_push(&d, (const char *)text + at, len, &out->text);
        at += len;
        if (!text_is_utf8(buf_str(&out->text), out->text.len)) abort();
    }
    if (out->stop < 0) detok_flush(&d, &out->text);
    detok_close(&d);
    if (out->text.failed) abort();
}

static void check(struct shown *got, const struct stops *s) {
    const char *text = buf_str(&got->text);
    if (got->stop >= (int)s->n || got->stop < -1) abort();
    if (!text_is_utf8(text, got->text.len) || memchr(text, 0, got->text.len)) abort();
    for (size_t i = 0; i < s->n; i++)
        if (strstr(text, s->list[i])) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { TEXT_MAX = 32 << 10 };
    struct stops stops;
    struct shown whole, parts;
    size_t at = take_stops(&stops, data, size), n = size - at < TEXT_MAX ? size - at : TEXT_MAX;
    show(&whole, &stops, data + at, n, NULL, 0);
    show(&parts, &stops, data + at, n, data + at, n < 16 ? n : 16);
    check(&whole, &stops);
    if (whole.stop != parts.stop || whole.text.len != parts.text.len) abort();
    if (memcmp(buf_str(&whole.text), buf_str(&parts.text), whole.text.len) != 0) abort();
    buf_free(&whole.text);
    buf_free(&parts.text);
    return 0;
}
