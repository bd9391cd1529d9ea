// Shared by store.c and store_import.c only.
#pragma once

#include "serve/store.h"

// The path of a model's file with that suffix (".gguf", ".json"). Fails (ERR_INVALID) where `name` is no model name.
int store_path(const struct store *s, const char *name, const char *suffix, char path[PATH_SIZE],
               struct err *e) MUST_USE;
