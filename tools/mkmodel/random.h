// Makes a model of any shape with random weights, for measuring speed: it computes what a real model of that shape
// computes and talks in words that mean nothing.
#pragma once

#include "base/err.h"
#include "llama_header.h"
#include <stdbool.h>

enum random_preset { PRESET_TINY, PRESET_100M, PRESET_1B };

// What a model remembers a text by: a row per token and layer; a state of one size; rows of the last tokens only, in
// three of four layers.
enum random_arch { ARCH_LLAMA, ARCH_MAMBA, ARCH_COHERE2 };

struct random_settings {
    int preset;               // enum random_preset
    struct llama_shape shape; // vocabulary >= TOKEN_BASE + some words
    int seed;
    int tied; // 1: the output matrix is the embedding; ARCH_COHERE2: always
    int arch; // enum random_arch
};

struct random_settings random_preset(enum random_preset preset);

// Writes the file. ERR_INVALID: the parts of the shape do not fit each other.
int random_write(const char *path, const struct random_settings *settings, struct err *e) MUST_USE;
