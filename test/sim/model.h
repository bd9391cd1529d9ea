// A fake model: the row of a position depends on its token and all rows before it, the next token on all rows there
// are. A row that is wrong or missing changes everything after it.
#pragma once

#include "engine/request.h"

enum { MODEL_PROMPT = 160, MODEL_ANSWER = 64, MODEL_MOST = MODEL_PROMPT + MODEL_ANSWER, MODEL_TEXT = 8 };

uint64_t model_row(int32_t token, int32_t position, const uint64_t *rows);
int32_t model_draw(uint64_t seed, int32_t position, const uint64_t *rows);

// What a client sees of tokens: some characters appear only with a later token.
struct writer {
    char held[MODEL_TEXT];
    int n_held;
    int32_t tokens; // taken so far
};
struct written {
    char text[MODEL_TEXT];
    int len;
    bool ends; // with this token
    enum finish how;
};
struct written writer_take(struct writer *w, int32_t token, int32_t most);

// The whole answer, as one place that nothing disturbs gives it.
struct answer {
    char text[MODEL_ANSWER * MODEL_TEXT];
    size_t len;
    int32_t tokens;
    enum finish how;
};
void model_answer(const int32_t *prompt, int32_t n, uint64_t seed, int32_t most, struct answer *out);
