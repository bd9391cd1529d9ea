#include "engine/worker/detok.h"
#include "base/text.h"

#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD";

void detok_init(struct detok *d, char *const *stop, size_t n_stop) {
    buf_init(&d->bytes, DETOK_PIECE + 4);
    buf_init(&d->held, 3 * (DETOK_PIECE + 4) + LIMIT_STOP_BYTES);
    d->stop = stop;
    d->n_stop = n_stop;
}

void detok_close(struct detok *d) {
    buf_free(&d->bytes);
    buf_free(&d->held);
}

// The longest stop string that text[0..n) ends with, or -1.
static int stop_at_end(const struct detok *d, const char *text, size_t n) {
    int found = -1;
    size_t longest = 0;
    for (size_t i = 0; i < d->n_stop; i++) {
        size_t len = strlen(d->stop[i]);
        if (len <= longest || len > n || memcmp(text + n - len, d->stop[i], len)) continue;
        found = (int)i;
        longest = len;
    }
    return found;
}

// Whether a stop string begins with text[0..n).
static bool may_become_stop(const struct detok *d, const char *text, size_t n) {
    for (size_t i = 0; i < d->n_stop; i++)
        if (strlen(d->stop[i]) > n && !memcmp(d->stop[i], text, n)) return true;
    return false;
}

// Moves text to out, except an end that may become a stop string.
static void release(struct detok *d, struct buf *out) {
    const char *text = buf_str(&d->held);
    size_t n = d->held.len, keep = n < LIMIT_STOP_BYTES ? n : LIMIT_STOP_BYTES;
    while (keep && !may_become_stop(d, text + n - keep, keep)) keep--;
    buf_append(out, text, n - keep);
    buf_consume(&d->held, n - keep);
}

// Adds valid text to what is held; the stop string found, or -1.
static int hold(struct detok *d, const char *text, size_t n, struct buf *out) {
    if (!d->n_stop) {
        buf_append(out, text, n);
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (buf_append(&d->held, text + i, 1)) out->failed = true;
        int stop = stop_at_end(d, buf_str(&d->held), d->held.len);
        if (stop < 0) continue;
        buf_append(out, d->held.data, d->held.len - strlen(d->stop[stop]));
        buf_clear(&d->held);
        return stop;
    }
    return -1;
}

// Turns bytes into characters as far as they are complete; `end`: an incomplete one is wrong, too.
static int decode(struct detok *d, bool end, struct buf *out) {
    size_t at = 0, n = d->bytes.len;
    int stop = -1;
    while (at < n && stop < 0) {
        const char *s = d->bytes.data + at;
        int len = text_utf8_char(s, n - at);
        if (len < 0 && !end) break;
        bool good = len > 0 && *s;
        stop = hold(d, good ? s : replacement, good ? (size_t)len : sizeof replacement - 1, out);
        at += good ? (size_t)len : 1;
    }
    buf_consume(&d->bytes, at);
    if (stop < 0) release(d, out);
    return stop;
}

int detok_push(struct detok *d, const char *piece, size_t n, struct buf *out) {
    if (buf_append(&d->bytes, piece, n)) out->failed = true;
    return decode(d, false, out);
}

void detok_flush(struct detok *d, struct buf *out) {
    if (decode(d, true, out) < 0) buf_append(out, buf_str(&d->held), d->held.len);
    buf_clear(&d->bytes);
    buf_clear(&d->held);
}
