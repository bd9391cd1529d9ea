// For tests: a folder that a daemon has filled.
#pragma once

#include <ftw.h>
#include <stdio.h>

static int folder_remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static inline int folder_remove(const char *path) { return nftw(path, folder_remove_one, 8, FTW_DEPTH | FTW_PHYS); }
