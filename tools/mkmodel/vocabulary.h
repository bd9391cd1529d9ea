// The vocabulary of made models: an SPM tokenizer in which every byte is a token, ten tokens for the markers of a
// ChatML template, and padding up to the wanted size.
#pragma once

#include <gguf.h>
#include <stdbool.h>

enum {
    TOKEN_UNKNOWN = 0,
    TOKEN_BOS = 1,
    TOKEN_EOS = 2,
    TOKEN_BYTE0 = 3,
    TOKEN_SPACE = 259, // the tokenizer's blank, U+2581
    TOKEN_MARKER0 = 260,
    TOKEN_BASE = 269, // so many tokens without padding
};

enum marker_kind { MARKER_OTHER, MARKER_USER, MARKER_ASSISTANT };

enum vocabulary_padding {
    PADDING_UNUSED, // tokens that no text contains
    PADDING_WORDS,  // " ba", " domal" ..: tokenizing a text of such words gives back these tokens
};

// Adds the tokenizer and the chat template to a model's metadata; total >= TOKEN_BASE.
void vocabulary_write(struct gguf_context *header, int total, enum vocabulary_padding padding);

int vocabulary_byte(int token); // the byte that the token stands for, -1 where none
bool vocabulary_is_marker(int token);
enum marker_kind vocabulary_marker(int token); // of a token that is a marker
