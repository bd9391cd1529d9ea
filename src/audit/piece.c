#include "audit/piece.h"
#include "base/json.h"

#include <string.h>

static int read_place(const json_t *msg, const char **log, uint64_t *at, struct err *e) {
    int64_t place = -1;
    *log = NULL;
    if (json_get_string(msg, "log", log, e) || json_get_int(msg, "at", 0, INT64_MAX >> 1, &place, e)) return -1;
    *at = (uint64_t)place;
    if (*log && note_is_name(*log) && place >= 0) return 0;
    return err_param(e, "log", "a piece is of a log, from a byte of it on");
}

json_t *piece_want_json(const struct piece_want *w) {
    return json_pack("{s:s,s:s,s:I,s:I}", "t", "audit.want", "log", w->log, "at", (json_int_t)w->at, "bytes",
                     (json_int_t)w->bytes);
}

int piece_want_read(const json_t *msg, struct piece_want *out, struct err *e) {
    int64_t bytes = -1;
    if (read_place(msg, &out->log, &out->at, e) || json_get_int(msg, "bytes", 0, PIECE_MOST, &bytes, e)) return -1;
    out->bytes = (size_t)bytes;
    return bytes >= 0 ? 0 : err_param(e, "bytes", "how many bytes are wanted is not said");
}

json_t *piece_json(const struct piece *p) {
    if (!p->data)
        return json_pack("{s:s,s:s,s:I,s:s}", "t", "audit.piece", "log", p->log, "at", (json_int_t)p->at, "error",
                         p->error);
    json_t *o = json_pack("{s:s,s:s,s:I,s:s%}", "t", "audit.piece", "log", p->log, "at", (json_int_t)p->at, "data",
                          p->data, p->n);
    if (o && p->note && json_object_set_new(o, "note", json_stringn(p->note, p->note_len))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

int piece_read(const json_t *msg, struct piece *out, struct err *e) {
    *out = (struct piece){.at = 0};
    if (read_place(msg, &out->log, &out->at, e) || json_get_string(msg, "data", &out->data, e) ||
        json_get_string(msg, "note", &out->note, e) || json_get_string(msg, "error", &out->error, e))
        return -1;
    out->n = out->data ? strlen(out->data) : 0;
    out->note_len = out->note ? strlen(out->note) : 0;
    if (!out->data == !out->error) return err_param(e, "data", "a piece has either data or an error");
    if (out->n >= BASE64_SIZE(PIECE_MOST)) return err_param(e, "data", "a piece is too long");
    if (out->note_len > NOTE_BYTES) return err_param(e, "note", "a piece's note is too long");
    if (out->error && strlen(out->error) > PIECE_ERROR) return err_param(e, "error", "an error is too long");
    return 0;
}
