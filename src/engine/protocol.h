// The wire between the daemon and a worker, written once for both sides: a socketpair that carries frames of
//     length (uint32, little endian) | JSON object of that many bytes
// The daemon treats a worker as hostile (it parses GGUF files): lengths are bounded before memory is touched, members
// are checked.
//
// to the worker                                          from the worker
//   {"t":"load", ...engine_options}    once, first         {"t":"progress","f":0.42}          while loading
//   {"t":"gen","id":N, ...gen_request}                     {"t":"ready", ...worker_info}      the model is loaded
//   {"t":"cancel","id":N}                                  {"t":"failed","code":..,"msg":..}  it cannot be; the end
//   {"t":"stats"}                                          {"t":"begin","id":N,"prompt_tokens":n[,"prompt_text":..]}
//                                                          {"t":"tokens","d":[[id,"text",n], ...]}  one message per
//                                                          step; n = tokens so far
//                                                          {"t":"end","id":N, ...gen_result}
//                                                          {"t":"error","id":N,"code":..,"param":..,"msg":..}
//   when asked, and every 250 ms of work:                  {"t":"stats", ...worker_stats}
//   after it, where that is new:                           {"t":"kept","d":[[tokens,hash],..]}  see engine/kept.h
//   every 500 ms, while there is anything to do:           {"t":"pulse", ...worker_pulse}
//
// Sequences that move (engine/client.h says what each means; blocks and slots are those of engine/arena.h):
//   {"t":"arena","bytes":N,"blocks":n,"block_bytes":N}   once, after "ready"
//   {"t":"go","id":N,"generated":[..],"from":p}          {"t":"rows","id":N,"d":[[layer,kind,first,count,block],..]}
//   {"t":"export","id":N,"first":p,"credits":n}          {"t":"installed","id":N,"upto":p,"slot":n}
//   {"t":"credit","id":N,"units":n}                      {"t":"paused","id":N,"tokens":n,"past":p}
//   {"t":"blocks","free":[block,..]}
//   {"t":"forget"}   what is kept of ended sequences goes
//   {"t":"pause","id":N}
//   {"t":"install","id":N,"slot":n,"offset":N,"first":p,"count":n,"coarse":b}
// "gen" may hold "bare" (see request.h), "hold" and "show_tokens"; then "begin" has "tokens":[..], and entries of
// "tokens" a fourth element, the id, one entry per token. "begin" has "cached". A sequence's "rows" come before the
// "paused" or "end" that follows them; nothing of it comes after its "end" or "error". "begin" is told when a request
// is queued; of one with "hold" not before it has its place, when "cached" is known (of others the result tells it).
// Every "gen" is answered by exactly one "end" or "error" (also after "cancel"), unless the worker dies. "text" is
// valid UTF-8, never split inside a character, never part of a stop string.
#pragma once

#include "base/buf.h"
#include "engine/kv.h"
#include "engine/options.h"
#include "engine/request.h"
#include <stddef.h>

enum { FRAME_HEAD = 4, WORKER_COSTS = 5 };

struct worker_info {
    char arch[64], description[128]; // "llama", "llama 8B Q4_0"
    char backends[128];              // "CPU" or "CUDA0, CPU"
    char llama_version[64];
    char chat_template[16];              // "jinja", "builtin" or "none": how chats are rendered
    char kv_type[16], emulated[128];     // emulated: whose times its are (plan/emulation.h), "" = its own
    double emulated_costs[WORKER_COSTS]; // the coefficients of plan/cost.h that it is paced to; 0: none
    int64_t n_params, model_bytes, kv_bytes_per_token;
    int64_t export_bytes_s, import_bytes_s; // rows out of the cache, and in; 0 = not measured
    int32_t ctx_train, ctx, kv_cells, parallel, threads, chunk, layers, vocab;
    // What two workers must share to exchange rows: both in hexadecimal SHA-256.
    char contract[65]; // architecture, shapes, rope parameters, tokenizer (all metadata that computing depends on)
    char weights[65];  // the tensors' bytes
    struct kv_shape kv;
    char kv_why[128]; // why what it remembers does not travel by rows (form KV_OPAQUE), "" where it does
};

struct kv_rows { // of one layer, K or V; of a state (KV_OPAQUE): `first` is a byte, `count` the length of the whole
    int32_t layer, first, count, block;
    enum kv_kind kind;
};

enum order_kind { ORDER_GO, ORDER_EXPORT, ORDER_CREDIT, ORDER_PAUSE, ORDER_INSTALL, ORDER_KINDS };
struct order { // what a sequence that moves is to do
    enum order_kind kind;
    int32_t *generated, n; // go; owned
    int32_t from;          // go: -1 = at once
    int32_t first;         // export (-1 = none any more), install
    int32_t units;         // export, credit
    int32_t count, slot;   // install
    int64_t offset;        // install
    bool coarse;           // install: the rows travelled in a coarser type than the cache's
};

struct arena_info {
    int64_t bytes, block_bytes;
    int32_t blocks;
};

struct worker_stats {
    int64_t cells_used, cells_total;       // KV cache; used by sequences that are computed or held
    int64_t cells_kept;                    // by sequences that have ended: free for others
    int64_t running, waiting;              // sequences being computed, requests queued
    int64_t prefill_tokens, decode_tokens; // since the worker started
    int64_t requests, steps, preemptions;
    int64_t busy_ns; // time spent computing
};

struct worker_pulse { // for how long each thread has been at the same thing and got no further
    int64_t control_ms, compute_ms;
};

// ---- frames
// Appends one frame to out. Takes no ownership of msg.
int frame_append(struct buf *out, const json_t *msg) MUST_USE;

// Takes the first frame off the front of in[0..n). Returns 1 and a new reference in *msg (*used = bytes consumed), 0
// where more bytes are needed, -1 (err filled) where the frame is longer than max or not a JSON object.
int frame_take(const char *in, size_t n, size_t max, json_t **msg, size_t *used, struct err *e) MUST_USE;

// ---- messages: encoders return a new reference or NULL (out of memory); decoders check every member
json_t *load_encode(const struct engine_options *o);
int load_decode(const json_t *msg, struct engine_options *o, struct err *e) MUST_USE;

json_t *gen_encode(uint64_t id, const struct gen_request *r);
int gen_decode(const json_t *msg, uint64_t *id, struct gen_request *r, struct err *e) MUST_USE; // free r in any case

json_t *info_encode(const struct worker_info *i);
int info_decode(const json_t *msg, struct worker_info *i, struct err *e) MUST_USE;

json_t *stats_encode(const struct worker_stats *s);
int stats_decode(const json_t *msg, struct worker_stats *s, struct err *e) MUST_USE;

json_t *pulse_encode(const struct worker_pulse *p);
int pulse_decode(const json_t *msg, struct worker_pulse *p, struct err *e) MUST_USE;

json_t *result_encode(uint64_t id, const struct gen_result *r);
int result_decode(const json_t *msg, struct gen_result *r, struct err *e) MUST_USE; // r->stop_string borrows from msg

json_t *error_encode(uint64_t id, const struct err *why); // "error", or "failed" where id is 0
int error_decode(const json_t *msg, struct err *why, struct err *e) MUST_USE;

json_t *begin_encode(uint64_t id, const struct gen_begin *b);
// *tokens, where there are any, are malloc'd, and b borrows them; prompt_text borrows from msg.
int begin_decode(const json_t *msg, struct gen_begin *b, int32_t **tokens, struct err *e) MUST_USE;

// ---- messages of sequences that move (protocol_kv.c)
int message_id(const json_t *msg, uint64_t *id, struct err *e) MUST_USE;
json_t *kv_shape_encode(const struct kv_shape *s);
int kv_shape_decode(const json_t *o, struct kv_shape *s, struct err *e) MUST_USE; // as kv_shape_check takes

int order_kind_of(const char *type); // -1: this message is none
json_t *order_encode(uint64_t id, const struct order *o);
int order_decode(const json_t *msg, uint64_t *id, struct order *o, struct err *e) MUST_USE; // o: order_free on success
void order_free(struct order *o);

json_t *arena_encode(const struct arena_info *a);
int arena_decode(const json_t *msg, struct arena_info *a, struct err *e) MUST_USE;
json_t *rows_encode(uint64_t id, const struct kv_rows *r, int32_t n);
// One item of "d": its rows lie within the shape and below position `cells`, or it is a piece of a state of the shape;
// whether the block is one, the arena says.
int rows_decode(const json_t *item, const struct kv_shape *s, int32_t cells, struct kv_rows *r, struct err *e) MUST_USE;

json_t *installed_encode(uint64_t id, int32_t upto, int32_t slot);
int installed_decode(const json_t *msg, int32_t *upto, int32_t *slot, struct err *e) MUST_USE;
json_t *paused_encode(uint64_t id, int32_t tokens, int32_t past);
int paused_decode(const json_t *msg, int32_t *tokens, int32_t *past, struct err *e) MUST_USE;
