// Writes a GGUF file tensor by tensor, converted on the way, so that a large model never lies in memory as a whole. The
// file grows under a temporary name beside its path and gets its own name when it is complete.
//
// Order of calls: open, metadata by gguf_set_* on `header`, declare for every tensor, begin, rows in the order of
// declaration, commit, close. Close is due after every open, whether or not that succeeded.
#pragma once

#include "base/err.h"
#include <ggml.h>
#include <gguf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct gguf_out {
    struct gguf_context *header;
    struct ggml_context *infos; // names and shapes of the tensors
    char *path, *temporary;     // owned
    FILE *file;
    struct ggml_tensor *current; // the tensor that the next rows belong to
    int64_t rows_done;           // of the current tensor
    void *converted;
    size_t converted_size;
};

int gguf_out_open(struct gguf_out *out, const char *path, int max_tensors, struct err *e) MUST_USE;
void gguf_out_close(struct gguf_out *out); // removes an uncommitted file

// A matrix of `rows` rows of `width` numbers (`type` must divide its width into whole blocks), or a vector of F32.
void gguf_out_declare(struct gguf_out *out, const char *name, enum ggml_type type, int64_t width, int64_t rows);
void gguf_out_declare_vector(struct gguf_out *out, const char *name, int64_t length);

int gguf_out_begin(struct gguf_out *out, struct err *e) MUST_USE;

// Appends rows to the current tensor; the one that completes it moves on to the next. Rows must not cross tensors.
int gguf_out_rows(struct gguf_out *out, const float *rows, int64_t count, struct err *e) MUST_USE;

int gguf_out_commit(struct gguf_out *out, struct err *e) MUST_USE;
