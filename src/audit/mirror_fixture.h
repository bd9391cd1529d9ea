// For tests: a log in a folder, which grows, and its bytes.
#pragma once

#include "audit/mirror.h"
#include "base/folder_fixture.h"
#include "base/json.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct source {
    char dir[PATH_SIZE];
    struct note_key key;
    EVP_PKEY *pair; // borrowed
    struct audit *a;
    char *data; // of the file `log`; owned
    size_t n;
    char note[NOTE_BYTES]; // its head
    size_t note_len;
    struct checkpoint head;
    uint64_t told;
};

static inline void source_open(struct source *s, const char *home, const char *name, EVP_PKEY *pair) {
    struct audit_found found;
    struct err e;
    *s = (struct source){.pair = pair, .key = {.kind = NOTE_LOG}};
    snprintf(s->dir, sizeof s->dir, "%s/%s", home, name);
    snprintf(s->key.name, sizeof s->key.name, "home/0123456789abcdef0123456789abcdef/%s", name);
    assert_int_equal(key_public(pair, s->key.public), 0);
    assert_int_equal(path_make_dir(s->dir, &e), 0);
    const struct audit_spec spec = {.dir = s->dir, .origin = s->key.name, .key = pair, .io = audit_files};
    assert_non_null(s->a = audit_open(&spec, &found, &e));
}

static inline void source_read(struct source *s) {
    char path[PATH_SIZE];
    struct err e;
    free(s->data);
    assert_int_equal(path_join(path, s->dir, AUDIT_LOG, &e), 0);
    assert_int_equal(file_read(path, 64 << 20, &s->data, &s->n, &e), 0);
    audit_head(s->a, s->note, &s->note_len);
    assert_int_equal(checkpoint_verify(s->note, s->note_len, &s->key, &s->head, &e), 0);
}

static inline void source_count(void *arg, uint64_t seq, const struct entry *f, const struct err *why) {
    struct source *s = arg;
    (void)f;
    assert_null(why);
    s->told = seq + 1;
}

// Each `at once` of the n records share a checkpoint; each is a little longer than `bytes`.
static inline void source_add(struct source *s, int n, int at_once, size_t bytes) {
    static char pad[ENTRY_MAX];
    struct err e;
    uint64_t seq = 0;
    memset(pad, 'x', bytes);
    for (int i = 0; i < n; i++) {
        json_t *body = json_pack("{s:i,s:s%}", "number", i, "pad", pad, bytes);
        assert_int_equal(audit_append(s->a, ENTRY_DENY, RECORD_ALONE, body, source_count, s, &seq, &e), 0);
        json_decref(body);
        while ((i % at_once == at_once - 1 || i == n - 1) && s->told <= seq) {
            struct pollfd p = {.fd = audit_fd(s->a), .events = POLLIN};
            assert_int_equal(poll(&p, 1, 60000), 1);
            audit_dispatch(s->a);
        }
    }
    source_read(s);
}

static inline void source_grow(struct source *s, int n, int at_once) { source_add(s, n, at_once, 46); }

static inline void source_close(struct source *s) {
    audit_close(s->a);
    free(s->data);
    *s = (struct source){.n = 0};
}

// Takes all of it in pieces of `most` bytes; what the last call has said.
static inline int mirror_all(struct mirror *m, const struct source *s, size_t most, bool *reached, struct err *e) {
    for (*reached = false;;) {
        uint64_t at = mirror_at(m);
        size_t n = s->n - at < most ? (size_t)(s->n - at) : most;
        if (mirror_take(m, &s->head, s->data + at, n, reached, e)) return -1;
        if (*reached || mirror_at(m) == at) return 0;
    }
}

static inline int mirror_finish(struct mirror *m, const struct source *s, struct err *e) {
    const struct mirror_beside b = {.note = s->note, .note_len = s->note_len, .witnesses = "[]", .roster = "{}"};
    return mirror_seal(m, &b, e);
}

struct place { // a folder of a test's own, and two keys
    char dir[64];
    EVP_PKEY *key, *other;
};

static inline int place_make(void **state) {
    static struct place p;
    struct err e;
    snprintf(p.dir, sizeof p.dir, "/tmp/nebulus-mirror-XXXXXX");
    *state = &p;
    return mkdtemp(p.dir) && (p.key = key_new(&e)) && (p.other = key_new(&e)) ? 0 : -1;
}

static inline int place_drop(void **state) {
    struct place *p = *state;
    EVP_PKEY_free(p->key);
    EVP_PKEY_free(p->other);
    return folder_remove(p->dir);
}
