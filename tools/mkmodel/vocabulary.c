#include "vocabulary.h"

#include "mem.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_ROOM = 48 };

#define BLANK "\xe2\x96\x81" // U+2581, the tokenizer's blank

// token types of GGUF
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

// Whole runs of the template are one token each, so that between two messages there is always exactly one token.
static const struct {
    const char *text;
    enum marker_kind kind;
} markers[] = {
    {"<|im_end|>", MARKER_OTHER},
    {"<|im_end|>\n<|im_start|>assistant\n", MARKER_ASSISTANT},
    {"<|im_end|>\n<|im_start|>user\n", MARKER_USER},
    {"<|im_end|>\n<|im_start|>system\n", MARKER_OTHER},
    {"<|im_start|>assistant\n", MARKER_ASSISTANT},
    {"<|im_start|>user\n", MARKER_USER},
    {"<|im_start|>system\n", MARKER_OTHER},
    {"<|im_start|>", MARKER_OTHER},
    {"<|im_end|>\n", MARKER_OTHER},
};
enum { MARKER_COUNT = sizeof markers / sizeof markers[0] };
_Static_assert(TOKEN_MARKER0 + MARKER_COUNT == TOKEN_BASE, "the padding begins after the last marker");

static const char chat_template[] = "{%- for message in messages -%}"
                                    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
                                    "{%- endfor -%}"
                                    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}";

int vocabulary_byte(int token) {
    if (token == TOKEN_SPACE) return ' ';
    return token >= TOKEN_BYTE0 && token < TOKEN_BYTE0 + 256 ? token - TOKEN_BYTE0 : -1;
}

bool vocabulary_is_marker(int token) { return token >= TOKEN_MARKER0 && token < TOKEN_BASE; }

enum marker_kind vocabulary_marker(int token) { return markers[token - TOKEN_MARKER0].kind; }

// Words in the order of their length, consonants and vowels in turn. Every beginning of a word is a word that comes
// before it, so the tokenizer's pairwise merging reaches them all.
static void word_text(char *text, int number) {
    static const char consonants[] = "bdjklmnprsvz", vowels[] = "aeiou";
    enum { CONSONANTS = sizeof consonants - 1, VOWELS = sizeof vowels - 1 };
    int length = 1;
    for (int count = CONSONANTS; number >= count; length++) {
        number -= count;
        count *= length % 2 ? VOWELS : CONSONANTS;
    }
    memcpy(text, BLANK, 3);
    text[3 + length] = 0;
    for (int i = length - 1; i >= 0; i--) {
        int letters = i % 2 ? VOWELS : CONSONANTS;
        text[3 + i] = (i % 2 ? vowels : consonants)[number % letters];
        number /= letters;
    }
}

struct entry {
    char text[TEXT_ROOM];
    float score;
    int32_t type;
};

static void describe(struct entry *entry, int token, enum vocabulary_padding padding) {
    static const char *const first[] = {"<unk>", "<s>", "</s>"};
    const char *fixed = NULL;
    entry->type = TYPE_CONTROL;
    if (token < TOKEN_BYTE0) {
        if (token == TOKEN_UNKNOWN) entry->type = TYPE_UNKNOWN;
        fixed = first[token];
    } else if (token == TOKEN_SPACE) {
        entry->type = TYPE_NORMAL;
        entry->score = -1;
        fixed = BLANK;
    } else if (vocabulary_is_marker(token)) {
        fixed = markers[token - TOKEN_MARKER0].text;
    } else if (token < TOKEN_BASE) {
        entry->type = TYPE_BYTE;
        snprintf(entry->text, sizeof entry->text, "<0x%02X>", token - TOKEN_BYTE0);
    } else if (padding == PADDING_WORDS) {
        entry->type = TYPE_NORMAL;
        entry->score = (float)(TOKEN_SPACE - token);
        word_text(entry->text, token - TOKEN_BASE);
    } else {
        entry->type = TYPE_UNUSED;
        entry->score = -1e4f;
        snprintf(entry->text, sizeof entry->text, "<unused%d>", token);
    }
    if (fixed) snprintf(entry->text, sizeof entry->text, "%s", fixed);
}

void vocabulary_write(struct gguf_context *header, int total, enum vocabulary_padding padding) {
    size_t count = (size_t)total;
    struct entry *entries = mem_new(count, sizeof *entries);
    const char **texts = mem_new(count, sizeof *texts);
    float *scores = mem_new(count, sizeof *scores);
    int32_t *types = mem_new(count, sizeof *types);
    for (int i = 0; i < total; i++) {
        describe(&entries[i], i, padding);
        texts[i] = entries[i].text;
        scores[i] = entries[i].score;
        types[i] = entries[i].type;
    }
    gguf_set_val_str(header, "tokenizer.ggml.model", "llama");
    gguf_set_val_str(header, "tokenizer.ggml.pre", "default");
    gguf_set_arr_str(header, "tokenizer.ggml.tokens", texts, count);
    gguf_set_arr_data(header, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, count);
    gguf_set_arr_data(header, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, count);
    gguf_set_val_u32(header, "tokenizer.ggml.unknown_token_id", TOKEN_UNKNOWN);
    gguf_set_val_u32(header, "tokenizer.ggml.bos_token_id", TOKEN_BOS);
    gguf_set_val_u32(header, "tokenizer.ggml.eos_token_id", TOKEN_EOS);
    gguf_set_val_u32(header, "tokenizer.ggml.eot_token_id", TOKEN_MARKER0);
    gguf_set_val_bool(header, "tokenizer.ggml.add_bos_token", true);
    gguf_set_val_bool(header, "tokenizer.ggml.add_eos_token", false);
    gguf_set_val_bool(header, "tokenizer.ggml.add_space_prefix", false);
    gguf_set_val_str(header, "tokenizer.chat_template", chat_template);
    free(entries);
    free(texts);
    free(scores);
    free(types);
}
