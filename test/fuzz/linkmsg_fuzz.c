// cluster/linkmsg: what another node says on a control link, as a stream of frames. An input that begins with '{' is
// one message.
#include "base/json.h"
#include "base/limits.h"
#include "cluster/linkmsg.h"
#include "engine/protocol.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct linkmsg *a, const struct linkmsg *b) {
    if (a->type != b->type || a->n != b->n || a->code != b->code || a->boot != b->boot || a->lost != b->lost) abort();
    if (a->type == LINKMSG_REFUSE && strcmp(a->msg, b->msg) != 0) abort();
    if (a->type != LINKMSG_HELLO) return;
    if (strcmp(a->id, b->id) != 0 || strcmp(a->name, b->name) != 0 || !json_equal(a->about, b->about)) abort();
}

// What is understood is written as it was read.
static void check_message(const json_t *msg) {
    struct linkmsg m, again;
    struct err e = {.code = ERR_NONE};
    struct buf b;
    json_t *got;
    size_t used;
    if (linkmsg_read(msg, &m, &e)) {
        if (e.code == ERR_NONE || !e.msg[0]) abort();
        return;
    }
    if (m.type == LINKMSG_USERS) return;
    json_t *wire = linkmsg_write(&m);
    buf_init(&b, LIMIT_PEER_MESSAGE);
    if (!wire || frame_append(&b, wire) || frame_take(b.data, b.len, b.len, &got, &used, &e) != 1) abort();
    if (used != b.len || linkmsg_read(got, &again, &e)) abort();
    check_same(&m, &again);
    json_decref(got);
    json_decref(wire);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *at = (const char *)data;
    struct err e;
    json_t *msg;
    if (size && *at == '{') {
        msg = json_parse(at, size, &e);
        if (json_is_object(msg)) check_message(msg);
        json_decref(msg);
        return 0;
    }
    for (size_t used; frame_take(at, size, LIMIT_PEER_HELLO, &msg, &used, &e) == 1; at += used, size -= used) {
        if (used > size) abort();
        check_message(msg);
        json_decref(msg);
    }
    return 0;
}
