// What a model costs, from its shape alone: the numbers that the cost formulas (plan/cost.h) are made of. Pure
// functions, nothing is allocated. Threads: any.
#pragma once

#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

// How numbers are kept: weights, the KV cache, or KV rows on the wire. q8 and q4 are ggml's q8_0 and q4_0: 32 numbers
// share a scale of 16 bits.
enum dtype { DTYPE_F16, DTYPE_Q8, DTYPE_Q4, DTYPES };

enum { SHAPE_NAME = 64 };

struct plan_shape {
    char name[SHAPE_NAME];
    double parameters;       // all of them: what the memory must hold
    double active;           // those that one token is multiplied with: without the lookup table of the vocabulary, of
                             // experts only the used ones, with the output head
    double table;            // of the lookup table, where it is not the output head, too; it is read one row at a time
    double head;             // of the output head, which a prompt needs for its last token only
    double weight_bits;      // per parameter
    int32_t layers, embd;    // embd: width of the hidden states
    int32_t heads;           // of queries
    int32_t key, value;      // sizes of a head's keys and values when scores are computed
    int32_t kv_width;        // numbers that one position keeps in one layer, K and V together
    int32_t window;          // some layers see only this many last positions (0: all layers see all)
    int32_t windowed_layers; // how many do
};

double dtype_bits(enum dtype d);           // per number, its share of the scale included
const char *dtype_name(enum dtype d);      // "f16", "q8", "q4": as weights
const char *dtype_wire_name(enum dtype d); // "f16", "q8_0": as KV rows
int dtype_parse(const char *name, enum dtype *out, struct err *e) MUST_USE; // any of those names

// A model of the catalogue; an unknown name fails with ERR_NOT_FOUND and a line that lists the known ones. The weights
// are f16.
int plan_shape_find(const char *name, struct plan_shape *out, struct err *e) MUST_USE;

// Entry i of the catalogue, NULL beyond its end.
const char *plan_shape_name(size_t i);

// Fails with ERR_INVALID where a figure is absurd (not positive, not finite, beyond any model).
int plan_shape_check(const struct plan_shape *s, struct err *e) MUST_USE;

// How many layers of an architecture (general.architecture of a GGUF file) see a window only; 0 for most.
int32_t plan_shape_windowed_layers(const char *arch, int32_t layers);

double plan_shape_weight_bytes(const struct plan_shape *s); // all weights
double plan_shape_read_bytes(const struct plan_shape *s);   // read for one decoded token
double plan_shape_pass_bytes(const struct plan_shape *s);   // read for a pass of many tokens, which use all experts

// Floating-point operations per token in all layers' matrices, and per pair of a token and a position that it attends
// to, in one layer (a multiplication and an addition for each number of the key and of the value).
double plan_shape_token_flops(const struct plan_shape *s);
double plan_shape_pair_flops(const struct plan_shape *s);

// Bytes of the KV rows of `tokens` positions. A windowed layer needs no more than its window.
double plan_shape_kv_bytes(const struct plan_shape *s, enum dtype d, double tokens);
