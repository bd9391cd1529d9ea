#include "base/text.h"
#include "base/limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int text_utf8_char(const char *s, size_t n) {
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) return 1;
    if (u[0] < 0xC2 || u[0] > 0xF4) return 0;
    int len = u[0] < 0xE0 ? 2 : u[0] < 0xF0 ? 3 : 4;
    // the second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF
    unsigned lo = u[0] == 0xE0 ? 0xA0 : u[0] == 0xF0 ? 0x90 : 0x80;
    unsigned hi = u[0] == 0xED ? 0x9F : u[0] == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < len; i++) {
        if ((size_t)i >= n) return -1;
        if (u[i] < (i == 1 ? lo : 0x80u) || u[i] > (i == 1 ? hi : 0xBFu)) return 0;
    }
    return len;
}

bool text_is_utf8(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        int len = text_utf8_char(s + i, n - i);
        if (len <= 0) return false;
        i += (size_t)len;
    }
    return true;
}

size_t text_utf8_complete(const char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)s[n - back];
        if (c >= 0xC0) return text_utf8_char(s + n - back, back) < 0 ? n - back : n;
        if (c < 0x80) break;
    }
    return n;
}

void text_escape(char *dst, size_t size, const char *src) {
    size_t n = strlen(src), out = 0;
    for (size_t i = 0; i < n;) {
        int len = text_utf8_char(src + i, n - i);
        unsigned char c = (unsigned char)src[i];
        // C1 controls (U+0080..U+009F) drive some terminals too
        bool control = c < 0x20 || c == 0x7F || (c == 0xC2 && len == 2 && (unsigned char)src[i + 1] < 0xA0);
        if (len > 0 && !control) {
            if (out + (size_t)len + 1 > size) break;
            memcpy(dst + out, src + i, (size_t)len);
            out += (size_t)len;
            i += (size_t)len;
        } else {
            if (out + 5 > size) break;
            out += (size_t)snprintf(dst + out, 5, "\\x%02X", c);
            i++;
            if (control && len == 2) {
                if (out + 5 > size) break;
                out += (size_t)snprintf(dst + out, 5, "\\x%02X", (unsigned char)src[i++]);
            }
        }
    }
    dst[out] = 0;
}

int text_parse_long(const char *s, long min, long max, long *out) {
    if (!*s) return -1;
    const char *digits = *s == '-' ? s + 1 : s;
    if (*digits < '0' || *digits > '9') return -1;
    char *end;
    errno = 0;
    long v = strtol(s, &end, 10);
    if (errno || *end || v < min || v > max) return -1;
    *out = v;
    return 0;
}

bool text_is_name(const char *name) {
    size_t n = strlen(name);
    if (!n || n > LIMIT_MODEL_NAME || name[0] == '.' || name[0] == '-') return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}
