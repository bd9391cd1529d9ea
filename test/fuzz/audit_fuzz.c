// audit: what is read from files and strangers - frames, records, notes, keys, checkpoints, receipts, growth, proofs of
// forks, pieces of logs. The first byte says which; what is accepted is written again as it was.
#include "audit/disk_fixture.h"
#include "audit/fork.h"
#include "audit/mirror.h"
#include "audit/note.h"
#include "audit/piece.h"
#include "audit/verify.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The fuzzer cannot know the CRC: 'f' mends it.
static void frames(uint8_t *p, size_t n, bool mend) {
    struct entry f;
    struct record_begin begin;
    size_t used = 0;
    if (mend && n >= ENTRY_HEAD && n - ENTRY_HEAD <= ENTRY_MAX)
        entry_head(p[ENTRY_HEAD - 1], p + ENTRY_HEAD, n - ENTRY_HEAD, p);
    while (n && entry_read(p, n, &f, &used) == 1) {
        if (used > n || f.n > ENTRY_MAX || f.data + f.n > (const char *)p + n) abort();
        if (f.type < ENTRY_RECORDS && f.n && record_begin_read(&f, &begin)) {
            char text[RECORD_BEGIN];
            size_t len;
            record_begin_write(&begin, text, &len);
            if (len > f.n || memcmp(text, f.data, len) != 0) abort();
        }
        p += used;
        n -= used;
    }
}

static void note(const char *text, size_t n) {
    struct note_key key;
    struct checkpoint c;
    struct err e = {.code = ERR_NONE};
    char again[NOTE_VKEY];
    size_t signed_len;
    if (!note_vkey_read(text, n, &key, &e)) {
        note_vkey(&key, again);
        if (strlen(again) != n || memcmp(again, text, n) != 0) abort();
    }
    static const char vkey[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    if (note_vkey_read(vkey, sizeof vkey - 1, &key, &e)) abort();
    if (!note_verify(text, n, &key, &signed_len, &e) && (signed_len >= n || text[signed_len - 1] != '\n')) abort();
    if (!checkpoint_read(text, n, &c, &e) && !note_is_name(c.origin)) abort();
}

static void receipt(const char *text, size_t n) {
    struct verified v;
    struct err e = {.code = ERR_NONE};
    json_t *record = NULL, *o = json_parse(text, n, &e);
    static const uint8_t root[KEY_PUBLIC] = {1};
    if (o && receipt_verify(o, root, &v, &record, &e) && !e.msg[0]) abort();
    uint64_t parted;
    if (o && fork_verify(o, root, &v, &parted, &e) && !e.msg[0]) abort();
    if (o && !growth_verify(o, NULL, &v, &parted, &e) && !fork_verify(o, NULL, &v, &parted, &e)) abort();
    struct growth g, again;
    if (o && !growth_read(o, &g, &e)) { // what is accepted is the same when it is written
        json_t *written = growth_json(&g);
        if (growth_read(written, &again, &e) || again.size != g.size || again.n != g.n ||
            memcmp(again.path, g.path, (size_t)g.n * sizeof *g.path) != 0)
            abort();
        const struct checkpoint head = {.size = g.size + 1}, held = {.size = g.size};
        if (g.n && growth_judge(&held, &head, &g) == VERDICT_SHRUNK) abort();
        json_decref(written);
    }
    struct piece_want want, want_again;
    if (o && !piece_want_read(o, &want, &e)) {
        json_t *written = piece_want_json(&want);
        if (piece_want_read(written, &want_again, &e) || want_again.at != want.at || want_again.bytes > PIECE_MOST)
            abort();
        json_decref(written);
    }
    struct piece piece, piece_again;
    if (o && !piece_read(o, &piece, &e)) {
        json_t *written = piece_json(&piece);
        if (piece_read(written, &piece_again, &e) || piece_again.at != piece.at || piece_again.n != piece.n) abort();
        json_decref(written);
    }
    json_decref(record);
    json_decref(o);
}

// Bytes that another node sends of its log: nothing counts, since no checkpoint is signed by this key. The fuzzer
// cannot know the CRC: it is mended.
static void mirror(uint8_t *p, size_t n) {
    static const struct note_key key = {.name = "home/0/1", .public = {1}};
    const struct checkpoint target = {.size = 3};
    struct disk disk;
    struct mirror m;
    struct err e = {.code = ERR_NONE};
    bool reached = false;
    disk_init(&disk, n);
    const struct audit_io io = disk_io(&disk);
    if (n >= ENTRY_HEAD && n - ENTRY_HEAD <= ENTRY_MAX)
        entry_head(p[ENTRY_HEAD - 1], p + ENTRY_HEAD, n - ENTRY_HEAD, p);
    if (mirror_open(&m, &io, "/mirror", &key, &e)) abort();
    for (size_t half = 0; half < 2 && n < DISK_MOST / 4; half++)
        if (mirror_take(&m, &target, p, half ? n : n / 2, &reached, &e) && mirror_at(&m)) abort();
    if (reached || mirror_at(&m) > 2 * n) abort();
    mirror_close(&m);
    disk_free(&disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size + 1); // of the exact size, so that a byte too far is noticed
    if (!copy || !size) {
        free(copy);
        return 0;
    }
    memcpy(copy, data + 1, size - 1);
    if (data[0] == 'F' || data[0] == 'f')
        frames(copy, size - 1, data[0] == 'f');
    else if (data[0] == 'N')
        note((const char *)copy, size - 1);
    else if (data[0] == 'M')
        mirror(copy, size - 1);
    else
        receipt((const char *)copy, size - 1);
    free(copy);
    return 0;
}
