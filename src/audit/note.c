#include "audit/note.h"
#include "base/bytes.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ID_BYTES = 4,
    TIME_BYTES = 8,
    SIGNED_BYTES = ID_BYTES + KEY_SIGNATURE,
    COSIGNED_BYTES = SIGNED_BYTES + TIME_BYTES,
    KEY_BYTES = 1 + KEY_PUBLIC,
    PADDED_MAX = 2 * COSIGNED_BYTES,
    STATEMENT_HEAD = 64, // what stands before the text that is cosigned
};
static const uint8_t algorithm[] = {[NOTE_LOG] = 1, [NOTE_WITNESS] = 4}; // "signature types" of signed-note
static const char DASH[] = "\xe2\x80\x94 ";                              // an em dash and a blank begin a signature

static int bad(struct err *e, const char *what) { return err_set(e, ERR_INVALID, "not a signed note: %s", what); }

bool note_is_name(const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] > '~' || name[i] == '+') return false;
    return n && n < NOTE_NAME;
}

static void key_id(const struct note_key *k, uint8_t out[ID_BYTES]) {
    uint8_t data[NOTE_NAME + 2 + KEY_PUBLIC], digest[DIGEST_BYTES];
    size_t n = strlen(k->name);
    memcpy(data, k->name, n);
    data[n] = '\n';
    data[n + 1] = algorithm[k->kind];
    memcpy(data + n + 2, k->public, KEY_PUBLIC);
    digest_of(data, n + 2 + KEY_PUBLIC, digest);
    memcpy(out, digest, ID_BYTES);
}

int note_base64(const char *text, size_t len, uint8_t *out, size_t n) {
    uint8_t room[PADDED_MAX], again[PADDED_MAX];
    if (len != (n + 2) / 3 * 4 || len >= sizeof again ||
        EVP_DecodeBlock(room, (const uint8_t *)text, (int)len) < (int)n)
        return -1;
    EVP_EncodeBlock(again, room, (int)n);
    memcpy(out, room, n);
    return memcmp(again, text, len) ? -1 : 0;
}

void note_vkey(const struct note_key *k, char out[NOTE_VKEY]) {
    uint8_t id[ID_BYTES], key[KEY_BYTES] = {algorithm[k->kind]};
    char hex[2 * ID_BYTES + 1], text[KEY_BYTES * 4 / 3 + 5];
    key_id(k, id);
    hex_encode(id, sizeof id, hex);
    memcpy(key + 1, k->public, KEY_PUBLIC);
    EVP_EncodeBlock((uint8_t *)text, key, sizeof key);
    snprintf(out, NOTE_VKEY, "%s+%s+%s", k->name, hex, text);
}

int note_vkey_read(const char *text, size_t n, struct note_key *k, struct err *e) {
    const char *plus = memchr(text, '+', n);
    uint8_t id[ID_BYTES], want[ID_BYTES], key[KEY_BYTES];
    char hex[2 * ID_BYTES + 1] = "";
    size_t name = plus ? (size_t)(plus - text) : n, rest = n - name;
    if (!plus || name >= NOTE_NAME || rest < 2 + sizeof hex || plus[sizeof hex] != '+')
        return err_set(e, ERR_INVALID, "not a key of the form NAME+HASH+KEY");
    memcpy(k->name, text, name);
    k->name[name] = '\0';
    memcpy(hex, plus + 1, sizeof hex - 1);
    if (strlen(k->name) != name || !note_is_name(k->name) || hex_decode(hex, id, sizeof id) ||
        note_base64(plus + sizeof hex + 1, rest - sizeof hex - 1, key, sizeof key) ||
        (key[0] != algorithm[NOTE_LOG] && key[0] != algorithm[NOTE_WITNESS]))
        return err_set(e, ERR_INVALID, "not an Ed25519 key of the form NAME+HASH+KEY");
    k->kind = key[0] == algorithm[NOTE_LOG] ? NOTE_LOG : NOTE_WITNESS;
    memcpy(k->public, key + 1, KEY_PUBLIC);
    key_id(k, want);
    if (memcmp(id, want, sizeof id) != 0) return err_set(e, ERR_INVALID, "the key's hash is not that of its name");
    return 0;
}

// ---------------------------------------------------------------- notes
// Where the text ends: before the last empty line. 0 = nowhere.
static size_t text_end(const char *note, size_t n) {
    for (size_t i = n; i >= 2; i--)
        if (note[i - 1] == '\n' && note[i - 2] == '\n') return i - 1;
    return 0;
}

static int own_key(struct note_key *k, const char *name, EVP_PKEY *key, enum note_kind kind, struct err *e) {
    *k = (struct note_key){.kind = kind};
    if (snprintf(k->name, sizeof k->name, "%s", name) < (int)sizeof k->name && !key_public(key, k->public)) return 0;
    return err_set(e, ERR_INVALID, "no Ed25519 key with a name");
}

// raw: id and signature of k.
static int add_line(char text[NOTE_BYTES], size_t *n, const struct note_key *k, uint8_t *raw, int raw_len,
                    struct err *e) {
    char line[PADDED_MAX];
    bool first = !text_end(text, *n);
    key_id(k, raw);
    EVP_EncodeBlock((uint8_t *)line, raw, raw_len);
    int more = snprintf(text + *n, NOTE_BYTES - *n, "%s%s%s %s\n", first ? "\n" : "", DASH, k->name, line);
    if (more < 0 || (size_t)more >= NOTE_BYTES - *n) return err_set(e, ERR_LIMIT, "the signed note is too long");
    *n += (size_t)more;
    return 0;
}

int note_sign(char text[NOTE_BYTES], size_t *n, const char *name, EVP_PKEY *key, struct err *e) {
    struct note_key k;
    uint8_t raw[SIGNED_BYTES];
    size_t end = text_end(text, *n), len = end ? end : *n;
    if (own_key(&k, name, key, NOTE_LOG, e) || key_sign(key, text, len, raw + ID_BYTES, e)) return -1;
    return add_line(text, n, &k, raw, sizeof raw, e);
}

// What a witness signs: two lines, then the note's text.
static size_t statement(char out[STATEMENT_HEAD + NOTE_BYTES], uint64_t when, const char *text, size_t n) {
    int head = snprintf(out, STATEMENT_HEAD, "cosignature/v1\ntime %" PRIu64 "\n", when);
    memcpy(out + head, text, n);
    return (size_t)head + n;
}

int note_cosign(char note[NOTE_BYTES], size_t *n, const char *name, EVP_PKEY *key, uint64_t when, struct err *e) {
    struct note_key k;
    uint8_t raw[COSIGNED_BYTES];
    char said[STATEMENT_HEAD + NOTE_BYTES];
    size_t end = text_end(note, *n);
    if (!end || when > INT64_MAX) return bad(e, "it has no signature, or the clock is wrong");
    size_t len = statement(said, when, note, end);
    for (int i = 0; i < TIME_BYTES; i++) raw[ID_BYTES + i] = (uint8_t)(when >> 8 * (TIME_BYTES - 1 - i));
    if (own_key(&k, name, key, NOTE_WITNESS, e) || key_sign(key, said, len, raw + ID_BYTES + TIME_BYTES, e)) return -1;
    return add_line(note, n, &k, raw, sizeof raw, e);
}

static bool is_cosigned(const struct note_key *k, const uint8_t *raw, const char *text, size_t n, uint64_t *when) {
    char said[STATEMENT_HEAD + NOTE_BYTES];
    *when = 0;
    for (int i = 0; i < TIME_BYTES; i++) *when = *when << 8 | raw[i];
    return *when <= INT64_MAX && key_verify(k->public, said, statement(said, *when, text, n), raw + TIME_BYTES);
}

// One signature line without its line feed: 1 k's, and good; 0 of others; -1 malformed, or k's and bad.
static int look(const char *line, size_t n, const char *text, size_t text_len, const struct note_key *k,
                uint64_t *when) {
    size_t dash = sizeof DASH - 1, name = strlen(k->name);
    size_t size = k->kind == NOTE_WITNESS ? COSIGNED_BYTES : SIGNED_BYTES;
    uint8_t raw[COSIGNED_BYTES], id[ID_BYTES];
    if (n <= dash || memcmp(line, DASH, dash) != 0) return -1;
    const char *blank = memchr(line + dash, ' ', n - dash);
    if (!blank || blank == line + dash) return -1;
    if ((size_t)(blank - line) != dash + name || memcmp(line + dash, k->name, name) != 0) return 0;
    if (note_base64(blank + 1, n - (size_t)(blank + 1 - line), raw, size)) return -1;
    key_id(k, id);
    if (memcmp(raw, id, sizeof id) != 0) return 0;
    bool good = k->kind == NOTE_WITNESS ? is_cosigned(k, raw + ID_BYTES, text, text_len, when)
                                        : key_verify(k->public, text, text_len, raw + ID_BYTES);
    return good ? 1 : -1;
}

static int verify(const char *note, size_t n, const struct note_key *k, size_t *text_len, uint64_t *when,
                  struct err *e) {
    if (n > NOTE_BYTES || !text_is_utf8(note, n)) return bad(e, "too long, or not UTF-8");
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)note[i] < ' ' && note[i] != '\n') return bad(e, "it has control characters");
    size_t end = text_end(note, n), at = end + 1;
    bool found = false;
    if (!end || at >= n || note[n - 1] != '\n') return bad(e, "it has no signature");
    for (int i = 0; at < n; i++) {
        const char *feed = memchr(note + at, '\n', n - at);
        size_t len = feed ? (size_t)(feed - note) - at : n - at;
        int seen = i < NOTE_SIGNATURES ? look(note + at, len, note, end, k, when) : -1;
        if (seen < 0) return bad(e, "a signature is malformed, or wrong");
        found = found || seen;
        at += len + 1;
    }
    *text_len = end;
    return found ? 0 : err_set(e, ERR_DENIED, "the note is not signed by the key '%s'", k->name);
}

int note_verify(const char *note, size_t n, const struct note_key *k, size_t *text_len, struct err *e) {
    uint64_t when;
    return verify(note, n, k, text_len, &when, e);
}

int note_cosigned(const char *note, size_t n, const struct note_key *k, uint64_t *when, struct err *e) {
    size_t text_len;
    if (k->kind != NOTE_WITNESS) return err_set(e, ERR_INVALID, "'%s' is no witness's key", k->name);
    return verify(note, n, k, &text_len, when, e);
}

// ---------------------------------------------------------------- checkpoints
int checkpoint_write(const struct checkpoint *c, EVP_PKEY *key, char out[NOTE_BYTES], size_t *n, struct err *e) {
    char root[PADDED_MAX];
    EVP_EncodeBlock((uint8_t *)root, c->root.b, MERKLE_HASH);
    *n = (size_t)snprintf(out, NOTE_BYTES, "%s\n%" PRIu64 "\n%s\n", c->origin, c->size, root);
    return note_sign(out, n, c->origin, key, e);
}

int checkpoint_read(const char *note, size_t n, struct checkpoint *c, struct err *e) {
    const char *line[3];
    size_t len[3];
    char number[24];
    long size;
    for (int i = 0; i < 3; i++) {
        const char *feed = memchr(note, '\n', n);
        if (!feed) return err_set(e, ERR_INVALID, "a checkpoint has three lines");
        line[i] = note;
        len[i] = (size_t)(feed - note);
        n -= len[i] + 1;
        note = feed + 1;
    }
    if (len[0] >= NOTE_NAME || len[1] >= sizeof number)
        return err_set(e, ERR_INVALID, "a checkpoint's line is too long");
    memcpy(c->origin, line[0], len[0]);
    c->origin[len[0]] = '\0';
    memcpy(number, line[1], len[1]);
    number[len[1]] = '\0';
    if (strlen(c->origin) != len[0] || !note_is_name(c->origin) || (len[1] > 1 && number[0] == '0') ||
        number[0] < '0' || number[0] > '9' || text_parse_long(number, 0, INT64_MAX >> 1, &size) ||
        note_base64(line[2], len[2], c->root.b, MERKLE_HASH))
        return err_set(e, ERR_INVALID, "a checkpoint is an origin, a number and a hash");
    c->size = (uint64_t)size;
    return 0;
}

int checkpoint_verify(const char *note, size_t n, const struct note_key *k, struct checkpoint *c, struct err *e) {
    size_t text;
    if (k->kind != NOTE_LOG) return err_set(e, ERR_INVALID, "'%s' is no log's key", k->name);
    if (note_verify(note, n, k, &text, e) || checkpoint_read(note, text, c, e)) return -1;
    if (!strcmp(c->origin, k->name)) return 0;
    return err_set(e, ERR_INVALID, "the checkpoint is of another log, %s", c->origin);
}
