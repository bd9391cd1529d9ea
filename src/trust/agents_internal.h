// What agents.c and agents_file.c share.
#pragma once

#include "base/paths.h"
#include "trust/agents.h"

struct agents {
    char file[PATH_SIZE];
    struct agent *of[AGENTS_MOST]; // owned, each by itself: they never move
    size_t n;
};

// Whether g may be there beside those that are: names, and what it may more than its parent. Its parent's labels must
// be among its own.
int agents_check(const struct agents *a, const struct agent *g, struct err *e) MUST_USE;

// ---- agents_file.c
int agents_load(struct agents *a, struct err *e) MUST_USE;
int agents_save(const struct agents *a, struct err *e) MUST_USE;
