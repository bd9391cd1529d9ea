// engine/protocol: frames and messages of the worker's wire, in both directions. An input that begins with '{' is one
// message; anything else is a stream of frames.
#include "base/json.h"
#include "engine/kept.h"
#include "engine/protocol.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Writes a message as a frame and takes it off again.
static json_t *through_the_wire(json_t *msg) {
    struct buf b;
    struct err e;
    json_t *got = NULL;
    size_t used = 0;
    if (!msg) abort();
    buf_init(&b, LIMIT_IPC_TO_WORKER);
    if (frame_append(&b, msg) || frame_take(b.data, b.len, LIMIT_IPC_TO_WORKER, &got, &used, &e) != 1 || used != b.len)
        abort();
    buf_free(&b);
    json_decref(msg);
    return got;
}

static void check_request(const json_t *msg) {
    struct gen_request r, again;
    uint64_t id = 0, id_again = 0;
    struct err e;
    if (!gen_decode(msg, &id, &r, &e)) {
        json_t *wire = through_the_wire(gen_encode(id, &r));
        if (gen_decode(wire, &id_again, &again, &e) || id != id_again || r.kind != again.kind ||
            r.n_stop != again.n_stop)
            abort();
        if (!json_equal(r.prompt, again.prompt) || r.max_tokens != again.max_tokens) abort();
        if (r.sampling.seed != again.sampling.seed || r.sampling.n_bias != again.sampling.n_bias) abort();
        for (size_t i = 0; i < r.n_stop; i++)
            if (strcmp(r.stop[i], again.stop[i])) abort();
        gen_request_free(&again);
        json_decref(wire);
    }
    gen_request_free(&r);
}

static void check_order(const json_t *msg) {
    struct order o, again;
    uint64_t id = 0, id_again = 0;
    struct err e;
    if (order_decode(msg, &id, &o, &e)) return;
    json_t *wire = through_the_wire(order_encode(id, &o));
    if (order_decode(wire, &id_again, &again, &e) || id != id_again || o.kind != again.kind || o.n != again.n ||
        o.from != again.from || o.first != again.first || o.units != again.units || o.offset != again.offset)
        abort();
    order_free(&again);
    order_free(&o);
    json_decref(wire);
}

// What is told of rows must lie within what the receiver has.
static void check_rows(const json_t *msg) {
    enum { CELLS = 4096 };
    static const struct kv_shape shape = {.form = KV_ROWS, .layers = 3, .unit = 64, .width = {64, 64}};
    const json_t *item;
    struct kv_rows r;
    struct err e;
    size_t i;
    json_array_foreach(json_object_get(msg, "d"), i, item) {
        if (rows_decode(item, &shape, CELLS, &r, &e)) continue;
        if (r.layer < 0 || r.layer >= shape.layers || (unsigned)r.kind >= KV_KINDS || r.first < 0 || r.count < 1 ||
            r.count > shape.unit || r.first + r.count > CELLS || r.block < 0)
            abort();
        json_decref(through_the_wire(rows_encode(1, &r, 1)));
    }
}

static void check_kept(const json_t *msg) {
    struct kept_marks marks, again;
    struct err e;
    if (kept_decode(json_object_get(msg, "d"), &marks, &e)) return;
    if (marks.n < 0 || marks.n > KEPT_MARKS) abort();
    json_t *list = kept_encode(&marks);
    if (kept_decode(list, &again, &e) || again.n != marks.n) abort();
    for (int32_t i = 0; i < marks.n; i++)
        if (marks.list[i].tokens < 1 || again.list[i].hash != marks.list[i].hash) abort();
    json_decref(list);
}

static void check_moves(const json_t *msg) {
    struct arena_info a;
    struct gen_begin b;
    struct err e;
    int32_t x, y, *tokens;
    check_order(msg);
    check_rows(msg);
    if (!arena_decode(msg, &a, &e) && (a.blocks < 1 || a.blocks * a.block_bytes > a.bytes)) abort();
    if (!installed_decode(msg, &x, &y, &e) && (x < 0 || y < 0)) abort();
    if (!paused_decode(msg, &x, &y, &e) && (x < 0 || y < 0)) abort();
    if (!begin_decode(msg, &b, &tokens, &e)) {
        if (b.cached_tokens > b.prompt_tokens || b.tokens != tokens) abort();
        json_decref(through_the_wire(begin_encode(1, &b)));
        free(tokens);
    }
}

static void check_message(const json_t *msg) {
    struct err e, why, why_again;
    struct engine_options o, o_again;
    struct worker_info info;
    struct worker_stats stats, stats_again;
    struct gen_result result, result_again;
    check_request(msg);
    check_moves(msg);
    check_kept(msg);
    if (!load_decode(msg, &o, &e)) {
        json_t *wire = through_the_wire(load_encode(&o));
        if (load_decode(wire, &o_again, &e) || strcmp(o.model_path, o_again.model_path) || o.ctx != o_again.ctx)
            abort();
        json_decref(wire);
    }
    if (!info_decode(msg, &info, &e)) {
        if (kv_shape_check(&info.kv, &e)) abort();
        json_decref(through_the_wire(info_encode(&info)));
    }
    if (!stats_decode(msg, &stats, &e)) {
        json_t *wire = through_the_wire(stats_encode(&stats));
        if (stats_decode(wire, &stats_again, &e) || memcmp(&stats, &stats_again, sizeof stats)) abort();
        json_decref(wire);
    }
    if (!result_decode(msg, &result, &e)) {
        json_t *wire = through_the_wire(result_encode(1, &result));
        if (result_decode(wire, &result_again, &e) || result.finish != result_again.finish) abort();
        json_decref(wire);
    }
    if (!error_decode(msg, &why, &e)) {
        json_t *wire = through_the_wire(error_encode(1, &why));
        if (error_decode(wire, &why_again, &e) || why.code != why_again.code) abort();
        json_decref(wire);
    }
}

static void take_frames(const char *in, size_t n) {
    enum { MAX_FRAME = 4096 };
    for (;;) {
        struct err e = {.code = ERR_NONE};
        json_t *msg = NULL;
        size_t used = 0;
        int rc = frame_take(in, n, MAX_FRAME, &msg, &used, &e);
        if (rc < 0 && (msg || e.code == ERR_NONE)) abort();
        if (rc != 1) return;
        if (!json_is_object(msg) || used < FRAME_HEAD || used > n || used > FRAME_HEAD + MAX_FRAME) abort();
        check_message(msg);
        json_decref(msg);
        in += used;
        n -= used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err e;
    if (!size || data[0] != '{') {
        take_frames((const char *)data, size);
        return 0;
    }
    json_t *msg = json_parse((const char *)data, size, &e);
    if (json_is_object(msg)) check_message(msg);
    json_decref(msg);
    return 0;
}
