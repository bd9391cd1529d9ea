#include "discover/about.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct key {
    const char *name;
    size_t offset, size;
    bool digits; // all of it, or nothing
} keys[] = {
    {"name", offsetof(struct about, name), ABOUT_NAME, false},
    {"id", offsetof(struct about, id), ABOUT_ID, true},
    {"cluster", offsetof(struct about, cluster), ABOUT_CLUSTER, true},
    {"version", offsetof(struct about, version), ABOUT_WORD, false},
    {"role", offsetof(struct about, role), ABOUT_WORD, false},
    {"models", offsetof(struct about, models), ABOUT_MODELS, false},
};
enum { KEYS = sizeof keys / sizeof *keys };
static const char first_pair[] = "txtvers=1";

void about_add_model(struct about *a, const char *name) {
    static const char more[] = "...";
    size_t used = strlen(a->models), comma = used > 0;
    bool full = used >= sizeof more - 1 && !strcmp(a->models + used - (sizeof more - 1), more);
    if (full) return;
    bool fits = used + comma + strlen(name) + 1 + sizeof more <= ABOUT_MODELS; // and a mark after it
    snprintf(a->models + used, ABOUT_MODELS - used, "%s%s", comma ? "," : "", fits ? name : more);
}

static size_t put_pair(uint8_t *out, const char *name, const char *value) {
    int n = snprintf((char *)out + 1, 256, "%s=%s", name, value);
    out[0] = (uint8_t)(n < 255 ? n : 255);
    return (size_t)out[0] + 1;
}

_Static_assert(ABOUT_NAME + ABOUT_ID + ABOUT_CLUSTER + 2 * ABOUT_WORD + ABOUT_MODELS + 8 * 10 + 256 <= ABOUT_TEXT + 256,
               "all pairs fit, and snprintf may write behind the last one");

size_t about_write(const struct about *a, uint8_t out[ABOUT_TEXT]) {
    uint8_t text[ABOUT_TEXT + 256];
    size_t n = sizeof first_pair;
    text[0] = sizeof first_pair - 1;
    memcpy(text + 1, first_pair, sizeof first_pair - 1);
    for (size_t i = 0; i < KEYS; i++) {
        const char *value = (const char *)a + keys[i].offset;
        if (*value) n += put_pair(text + n, keys[i].name, value);
    }
    memcpy(out, text, n);
    return n;
}

static const struct key *find_key(const uint8_t *name, size_t n) {
    for (size_t i = 0; i < KEYS; i++)
        if (strlen(keys[i].name) == n && !strncasecmp(keys[i].name, (const char *)name, n)) return &keys[i];
    return NULL;
}

static void take_pair(struct about *a, bool seen[KEYS], const uint8_t *pair, size_t n) {
    const uint8_t *equals = memchr(pair, '=', n);
    const struct key *key = equals ? find_key(pair, (size_t)(equals - pair)) : NULL;
    if (!key || seen[key - keys]) return;
    char *out = (char *)a + key->offset;
    size_t len = n - (size_t)(equals - pair) - 1, most = key->size - 1;
    seen[key - keys] = true;
    memcpy(out, equals + 1, len < most ? len : most);
    out[len < most ? len : most] = 0;
    if (key->digits && (len != most || strspn(out, "0123456789abcdef") != most)) *out = 0;
}

void about_read(struct about *a, const uint8_t *text, size_t n) {
    bool seen[KEYS] = {false};
    memset(a, 0, sizeof *a);
    for (size_t i = 0; i < n; i += (size_t)text[i] + 1) take_pair(a, seen, text + i + 1, text[i]);
}
