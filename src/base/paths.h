// Where Nebulus keeps its things. NEBULUS_HOME, when set, holds everything (config/, data/, state/ below it); otherwise
// the XDG base directories ($XDG_CONFIG_HOME/nebulus, ...) with their usual defaults under the home directory.
#pragma once

#include "base/err.h"
#include <stddef.h>

enum { PATH_SIZE = 4096 };

struct paths {
    char config[PATH_SIZE]; // directory of nebulus.conf
    char data[PATH_SIZE];   // models/
    char state[PATH_SIZE];  // history, logs
};

// Computes the directories; creates nothing. Fails where there is neither NEBULUS_HOME nor a home directory.
int paths_init(struct paths *p, struct err *e) MUST_USE;

// Joins a directory and a name into out (PATH_SIZE bytes). Fails with ERR_LIMIT where it does not fit.
int path_join(char *out, const char *dir, const char *name, struct err *e) MUST_USE;

// Creates a directory and its parents, readable by the owner only (0700). Fine where it exists.
int path_make_dir(const char *dir, struct err *e) MUST_USE;

// The absolute path of this program's own executable file.
int path_self(char out[PATH_SIZE], struct err *e) MUST_USE;

// Reads a whole file of at most max bytes into malloc'd memory with a NUL after it (free it).
int file_read(const char *path, size_t max, char **data, size_t *len, struct err *e) MUST_USE;

// Replaces a file's content so that a crash leaves either the old or the new one (temporary file, fsync, rename, fsync
// of the folder). Mode 0600. It fails, too, where the new one is there but the folder could not be synced: after a
// power cut it may be the old one.
int file_write(const char *path, const void *data, size_t len, struct err *e) MUST_USE;

int dir_sync(const char *path, struct err *e) MUST_USE; // names in it are durable; e may be NULL
