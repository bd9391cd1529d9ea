#include "model.h"

#include <string.h>

enum { END_TOKEN = 0, VOCABULARY = 1000, FIRST_STOP = 980, HELD_MOST = 3 };

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t z = (a ^ (b + 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 29)) * 0x94d049bb133111ebu;
    return z ^ (z >> 32);
}

static uint64_t fold(const uint64_t *rows, int32_t n) {
    uint64_t h = 1;
    for (int32_t i = 0; i < n; i++) h = mix(h, rows[i]);
    return h;
}

uint64_t model_row(int32_t token, int32_t position, const uint64_t *rows) {
    return mix(fold(rows, position), (uint64_t)token);
}

int32_t model_draw(uint64_t seed, int32_t position, const uint64_t *rows) {
    uint64_t h = mix(mix(fold(rows, position), seed), (uint64_t)position);
    return h % 50 == 0 ? END_TOKEN : 1 + (int32_t)(h / 64 % (VOCABULARY - 1));
}

static void show_held(struct writer *w, struct written *out) {
    memcpy(out->text, w->held, (size_t)w->n_held);
    out->len = w->n_held;
    w->n_held = 0;
}

struct written writer_take(struct writer *w, int32_t token, int32_t most) {
    struct written out = {.ends = token == END_TOKEN || token >= FIRST_STOP, .how = FINISH_STOP};
    w->tokens++;
    if (!out.ends) w->held[w->n_held++] = (char)('a' + token % 26);
    if (!out.ends && w->tokens >= most) {
        out.ends = true;
        out.how = FINISH_LENGTH;
    }
    if (out.ends || token % 4 || w->n_held == HELD_MOST) show_held(w, &out);
    return out;
}

void model_answer(const int32_t *prompt, int32_t n, uint64_t seed, int32_t most, struct answer *out) {
    uint64_t rows[MODEL_MOST];
    struct writer writer = {.n_held = 0};
    struct written one = {.ends = false};
    *out = (struct answer){.len = 0};
    for (int32_t i = 0; i < n; i++) rows[i] = model_row(prompt[i], i, rows);
    while (!one.ends) {
        int32_t position = n + out->tokens++, token = model_draw(seed, position, rows);
        one = writer_take(&writer, token, most);
        memcpy(out->text + out->len, one.text, (size_t)one.len);
        out->len += (size_t)one.len;
        if (!one.ends) rows[position] = model_row(token, position, rows);
    }
    out->how = one.how;
}
